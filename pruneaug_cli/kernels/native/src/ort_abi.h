/* The part of ONNX Runtime's C interface that a custom operator needs, written by hand.
 *
 * ONNX Runtime hands out `OrtApi`, a table of function pointers to which new versions only append:
 * a function's place never changes. The view below names the places we call and leaves the others
 * as gaps; each place is asserted. The same binary therefore runs on every release since 1.17
 * (interface version 17), and building it needs no header of ONNX Runtime.
 *
 * Names are those of onnxruntime_c_api.h, so that its documentation applies. A call that returns
 * `OrtStatus *` returns NULL for success; otherwise the caller owns the status.
 */
#ifndef PRUNEAUG_ORT_ABI_H
#define PRUNEAUG_ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ORT_INTERFACE_VERSION 17 /* ONNX Runtime 1.17, the first with KernelContext_ParallelFor */

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtShapeInferContext OrtShapeInferContext;
typedef struct OrtCustomOp OrtCustomOp;

enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };     /* OrtErrorCode */
enum { ORT_TENSOR_FLOAT = 1, ORT_TENSOR_UINT8 = 2 }; /* ONNXTensorElementDataType */
enum { ORT_REQUIRED = 0, ORT_VARIADIC = 2 };         /* OrtCustomOpInputOutput... */
enum { ORT_MEMORY_DEFAULT = 0 };                     /* OrtMemType */

typedef void (*OrtGap)(void);

typedef struct OrtApi {
    OrtStatus *(*CreateStatus)(int code, const char *message); /* 0 */
    OrtGap gap_1[25];
    OrtStatus *(*CreateCustomOpDomain)(const char *name, OrtCustomOpDomain **domain);       /* 26 */
    OrtStatus *(*CustomOpDomain_Add)(OrtCustomOpDomain *domain, const OrtCustomOp *op);     /* 27 */
    OrtStatus *(*AddCustomOpDomain)(OrtSessionOptions *options, OrtCustomOpDomain *domain); /* 28 */
    OrtGap gap_29[22];
    OrtStatus *(*GetTensorMutableData)(OrtValue *value, void **data); /* 51 */
    OrtGap gap_52[9];
    OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *info, size_t *rank); /* 61 */
    OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *info, int64_t *dims,
                                size_t rank); /* 62 */
    OrtGap gap_63[1];
    OrtStatus *(*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo *info,
                                             size_t *count); /* 64 */
    OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *value,
                                        OrtTensorTypeAndShapeInfo **info); /* 65 */
    OrtGap gap_66[24];
    OrtStatus *(*KernelContext_GetInput)(const OrtKernelContext *context, size_t index,
                                         const OrtValue **value); /* 90 */
    OrtStatus *(*KernelContext_GetOutput)(OrtKernelContext *context, size_t index,
                                          const int64_t *dims, size_t rank,
                                          OrtValue **value); /* 91 */
    OrtGap gap_92[1];
    void (*ReleaseStatus)(OrtStatus *status); /* 93 */
    OrtGap gap_94[5];
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *info); /* 99 */
    OrtGap gap_100[1];
    void (*ReleaseCustomOpDomain)(OrtCustomOpDomain *domain); /* 101 */
    OrtGap gap_102[61];
    OrtStatus *(*KernelInfoGetAttributeArray_int64)(const OrtKernelInfo *info, const char *name,
                                                    int64_t *out, size_t *size); /* 163 */
    OrtGap gap_164[66];
    OrtStatus *(*KernelInfo_GetInputCount)(const OrtKernelInfo *info, size_t *count);  /* 230 */
    OrtStatus *(*KernelInfo_GetOutputCount)(const OrtKernelInfo *info, size_t *count); /* 231 */
    OrtGap gap_232[12];
    OrtStatus *(*KernelInfo_GetNodeName)(const OrtKernelInfo *info, char *out,
                                         size_t *size); /* 244 */
    OrtGap gap_245[4];
    OrtStatus *(*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo *info, size_t index,
                                                    int *is_constant,
                                                    const OrtValue **value); /* 249 */
    OrtGap gap_250[24];
    OrtStatus *(*KernelContext_ParallelFor)(const OrtKernelContext *context,
                                            void (*task)(void *context, size_t index), size_t count,
                                            size_t batches, void *task_context); /* 274 */
} OrtApi;

#define ORT_ASSERT_SLOT(name, slot)                                   \
    _Static_assert(offsetof(OrtApi, name) == (slot) * sizeof(OrtGap), \
                   #name " is not where ONNX Runtime has it")
ORT_ASSERT_SLOT(CreateStatus, 0);
ORT_ASSERT_SLOT(CreateCustomOpDomain, 26);
ORT_ASSERT_SLOT(CustomOpDomain_Add, 27);
ORT_ASSERT_SLOT(AddCustomOpDomain, 28);
ORT_ASSERT_SLOT(GetTensorMutableData, 51);
ORT_ASSERT_SLOT(GetDimensionsCount, 61);
ORT_ASSERT_SLOT(GetDimensions, 62);
ORT_ASSERT_SLOT(GetTensorShapeElementCount, 64);
ORT_ASSERT_SLOT(GetTensorTypeAndShape, 65);
ORT_ASSERT_SLOT(KernelContext_GetInput, 90);
ORT_ASSERT_SLOT(KernelContext_GetOutput, 91);
ORT_ASSERT_SLOT(ReleaseStatus, 93);
ORT_ASSERT_SLOT(ReleaseTensorTypeAndShapeInfo, 99);
ORT_ASSERT_SLOT(ReleaseCustomOpDomain, 101);
ORT_ASSERT_SLOT(KernelInfoGetAttributeArray_int64, 163);
ORT_ASSERT_SLOT(KernelInfo_GetInputCount, 230);
ORT_ASSERT_SLOT(KernelInfo_GetOutputCount, 231);
ORT_ASSERT_SLOT(KernelInfo_GetNodeName, 244);
ORT_ASSERT_SLOT(KernelInfoGetConstantInput_tensor, 249);
ORT_ASSERT_SLOT(KernelContext_ParallelFor, 274);
#undef ORT_ASSERT_SLOT

typedef struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version); /* NULL: this release is older than `version` */
    const char *(*GetVersionString)(void);
} OrtApiBase;

/* The callbacks through which ONNX Runtime learns what an operator is. It reads the fields that
 * the interface version in `version` has; those after GetEndVersion came with 1.18 and are here so
 * that the size of the struct is that of the releases that know them. */
struct OrtCustomOp {
    uint32_t version;
    void *(*CreateKernel)(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info);
    const char *(*GetName)(const OrtCustomOp *op);
    const char *(*GetExecutionProviderType)(const OrtCustomOp *op); /* NULL: the CPU */
    int (*GetInputType)(const OrtCustomOp *op, size_t index);
    size_t (*GetInputTypeCount)(const OrtCustomOp *op);
    int (*GetOutputType)(const OrtCustomOp *op, size_t index);
    size_t (*GetOutputTypeCount)(const OrtCustomOp *op);
    void (*KernelCompute)(void *kernel, OrtKernelContext *context);
    void (*KernelDestroy)(void *kernel);
    int (*GetInputCharacteristic)(const OrtCustomOp *op, size_t index);
    int (*GetOutputCharacteristic)(const OrtCustomOp *op, size_t index);
    int (*GetInputMemoryType)(const OrtCustomOp *op, size_t index);
    int (*GetVariadicInputMinArity)(const OrtCustomOp *op);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp *op);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp *op);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *op);
    OrtStatus *(*CreateKernelV2)(const OrtCustomOp *op, const OrtApi *api,
                                 const OrtKernelInfo *info, void **kernel);
    OrtStatus *(*KernelComputeV2)(void *kernel, OrtKernelContext *context);
    OrtStatus *(*InferOutputShapeFn)(const OrtCustomOp *op, OrtShapeInferContext *context);
    int (*GetStartVersion)(const OrtCustomOp *op);
    int (*GetEndVersion)(const OrtCustomOp *op);
    size_t (*GetMayInplace)(int **inputs, int **outputs);
    void (*ReleaseMayInplace)(int *inputs, int *outputs);
    size_t (*GetAliasMap)(int **inputs, int **outputs);
    void (*ReleaseAliasMap)(int *inputs, int *outputs);
};
_Static_assert(sizeof(OrtCustomOp) == 26 * sizeof(OrtGap), "OrtCustomOp has 26 fields");

#endif
