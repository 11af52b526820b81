"""The profile file: written, read back, and refused with its place when malformed; its finding."""

import json

import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, parse_geometry
from pruneaug_cli.errors import ProfileError
from pruneaug_cli.platforms import (
    Measurement,
    NetworkMeasurement,
    NetworkSample,
    PeerMeasurement,
    Platform,
    Profile,
    find_profile,
    list_profiles,
    read_profile,
    write_profile,
)

CONV = parse_geometry("conv 64 64 3 3 32 32 1 1")
LINEAR = parse_geometry("linear 10 256 1")
HALF = LayerChoice(BlockShape(8, 1), 0.5)


def sample(measured_s, layer_s, sparsity):
    """A plan of a network with one layer."""
    choice = LayerChoice(BlockShape(8, 1), sparsity) if sparsity else DENSE
    return NetworkSample(measured_s, {"a": layer_s}, {"a": choice})


def make_profile(**changes):
    rows = (
        Measurement(LINEAR, DENSE, 2e-6, 0.02, (1.9e-6, 2e-6, 2.1e-6)),
        Measurement(CONV, HALF, 2e-4, 0.01, (2e-4,) * 5),
        Measurement(CONV, DENSE, 4e-4, 0.01, (4e-4,) * 5),
    )
    fields = {
        "name": "box",
        "platform": Platform("native"),
        "host": {"cpu": "Some CPU", "isa": "avx2"},
        "kernels": {"digest": "ab"},
        "date": "2025-01-31",
        "settings": {"seed": 0, "sample_s": 0.002},
        "repeat_error": 0.01,
        "measurements": rows,
        "peers": (PeerMeasurement(CONV, 3e-4, 0.01, (3e-4,)),),
        "networks": (
            NetworkMeasurement.fit("d1", [sample(3e-3, 1e-3, 0.5)], dense_latency_s=9e-3),
        ),
    }
    return Profile(**{**fields, **changes})


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "box.json"
    write_profile(make_profile(), path)
    return path


def test_a_profile_survives_the_file(written):
    read, made = read_profile(written), make_profile()
    assert read.to_json() == made.to_json()
    assert read.find(CONV, HALF) == made.find(CONV, HALF)
    assert read.network("d1") == made.network("d1")
    assert read.platform == Platform("native", threads=1, dtype="float32", batch=1)


def test_rows_are_sorted_so_that_equal_profiles_give_equal_bytes(written, tmp_path):
    other = tmp_path / "other.json"
    write_profile(make_profile(measurements=make_profile().measurements[::-1]), other)
    assert other.read_bytes() == written.read_bytes()


def test_the_table_for_pandas_has_the_peer_beside_each_row():
    frame = make_profile().to_frame()
    assert list(frame["block"]) == ["dense", "8x1", "dense"]
    assert list(frame["peer_latency_s"][:2]) == [3e-4, 3e-4]
    assert "conv 64 64 3 3 32 32 1 1,8x1,0.5,0.0002" in frame.to_csv()


def test_the_rest_of_a_network_is_what_its_layers_leave():
    plans = [sample(6.0, 5.0, 0.0), sample(4.0, 3.0, 0.5), sample(2.0, 1.0, 0.9)]
    fitted = NetworkMeasurement.fit("d", plans, dense_latency_s=9.0)
    assert fitted.rest_s == pytest.approx(1.0)
    assert fitted.layers["a"].seconds == (5.0, 3.0, 1.0)
    assert fitted.layers["a"].at(0.7) == pytest.approx(2.0)
    assert fitted.measured_s == (6.0, 4.0, 2.0)


def test_the_error_of_a_network_is_that_of_the_inner_plans_left_out():
    plans = [sample(6.0, 5.0, 0.0), sample(2.5, 2.0, 0.5), sample(2.0, 1.0, 1 - 1 / 16)]
    fitted = NetworkMeasurement.fit("d", plans, dense_latency_s=9.0)
    between = 5.0 + (1.0 - 5.0) * 0.5 / (1 - 1 / 16)
    assert fitted.error == pytest.approx((between + 1.0) / 2.5 - 1.0)
    assert NetworkMeasurement.fit("d", plans[:2], dense_latency_s=9.0).error == 0.0


def test_a_layer_that_noise_made_slower_when_sparser_is_levelled():
    plans = [sample(6.0, 4.0, 0.5), sample(6.0, 4.0, 0.9), sample(6.0, 4.4, 0.95)]
    seconds = NetworkMeasurement.fit("d", plans, dense_latency_s=9.0).layers["a"].seconds
    assert seconds[0] == seconds[1] == seconds[2]
    assert 4.0 < seconds[0] < 4.4


def test_a_network_needs_plans_and_one_block_per_layer():
    with pytest.raises(ValueError, match="a network needs at least one sample"):
        NetworkMeasurement.fit("d", [], dense_latency_s=9.0)
    other = NetworkSample(1.0, {"a": 1.0}, {"a": LayerChoice(BlockShape(4, 1), 0.7)})
    with pytest.raises(ValueError, match="a: measured in blocks of 8x1 and 4x1"):
        NetworkMeasurement.fit("d", [sample(1.0, 1.0, 0.5), other], dense_latency_s=9.0)


def test_a_network_measured_again_replaces_the_old_one():
    again = NetworkMeasurement.fit("d1", [sample(5e-3, 1e-3, 0.5)], dense_latency_s=9e-3)
    other = NetworkMeasurement.fit("d2", [sample(1.0, 0.5, 0.5)], dense_latency_s=2.0)
    profile = make_profile().with_network(other).with_network(again)
    assert {entry.digest: entry.rest_s for entry in profile.networks} == {"d1": 4e-3, "d2": 0.5}


def test_a_pair_measured_twice_is_a_programming_error():
    rows = make_profile().measurements
    with pytest.raises(ValueError, match="each geometry and choice once"):
        make_profile(measurements=(*rows, rows[0]))


def set_path(document, keys, value):
    for key in keys[:-1]:
        document = document[key]
    document[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("name",), 3, "box.json: name: expected a text, got 3"),
        (("host", "cpu"), None, "box.json: host.cpu: expected a text, got None"),
        (("platform",), [], "box.json: platform: expected an object, got a list"),
        (
            ("platform", "threads"),
            0,
            "box.json: platform.threads: expected a whole number from 1 up, got 0",
        ),
        (("repeat_error",), "small", "box.json: repeat_error: expected a number, got 'small'"),
        (("settings", "seed"), {}, "settings.seed: expected a number or a text, got an object"),
        (
            ("measurements", 1, "block"),
            "8by1",
            "box.json: measurements[1].block: expected ROWSxCOLS such as 8x1, got '8by1'",
        ),
        (
            ("measurements", 0, "geometry"),
            "conv 1",
            "box.json: measurements[0].geometry: bad geometry 'conv 1': expected 'conv Cout Cin",
        ),
        (
            ("measurements", 1, "sparsity"),
            1.5,
            "box.json: measurements[1].sparsity: sparsity must be in [0, 1), got 1.5",
        ),
        (
            ("measurements", 2, "latency_s"),
            0,
            "box.json: measurements[2]: latency_s must be positive, got 0.0",
        ),
        (
            ("measurements", 0, "samples_s", 1),
            float("inf"),
            "box.json: measurements[0].samples_s[1]: expected a finite number, got inf",
        ),
        (("peers", 0), "x", "box.json: peers[0]: expected an object, got 'x'"),
        (
            ("networks", 0, "layers", "a", "seconds"),
            [],
            "networks[0].layers.a: expected as many seconds as sparsities, got 0 for 1",
        ),
        (
            ("networks", 0, "layers", "a", "seconds", 0),
            -1.0,
            "networks[0].layers.a: expected positive seconds, got (-1.0,)",
        ),
        (
            ("networks", 0, "layers", "a"),
            {"block": None, "sparsities": [0.5, 0.5], "seconds": [1.0, 1.0]},
            "networks[0].layers.a: expected rising sparsities, got (0.5, 0.5)",
        ),
        (("networks", 0, "rest_s"), True, "networks[0].rest_s: expected a number, got true or fal"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_a_malformed_profile_is_refused_with_its_place(written, keys, value, message):
    document = json.loads(written.read_text())
    set_path(document, keys, value)
    written.write_text(json.dumps(document))
    with pytest.raises(ProfileError) as error:
        read_profile(written)
    assert message in str(error.value)


def test_a_missing_key_is_named(written):
    document = json.loads(written.read_text())
    del document["measurements"][1]["spread"]
    written.write_text(json.dumps(document))
    with pytest.raises(ProfileError, match=r"box\.json: measurements\[1\]\.spread: missing"):
        read_profile(written)


def test_a_profile_of_another_version_is_refused_with_what_to_do(written):
    document = json.loads(written.read_text()) | {"schema_version": 1}
    written.write_text(json.dumps(document))
    with pytest.raises(ProfileError, match="profile schema 1 is not the supported 2") as error:
        read_profile(written)
    assert error.value.hint == (
        "measure it again with: pruneaug profile --task TASK --platform NAME"
    )


def test_profiles_are_found_by_name_in_the_first_folder_that_has_them(tmp_path):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder, name in ((mine, "box"), (theirs, "box"), (theirs, "board")):
        write_profile(make_profile(name=name), folder / f"{name}.json")
    folders = (tmp_path / "absent", mine, theirs)
    assert list_profiles(folders) == {"board": theirs / "board.json", "box": mine / "box.json"}
    assert find_profile("box", folders) == mine / "box.json"
    assert find_profile(str(theirs / "box.json"), folders) == theirs / "box.json"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("boxx", "unknown profile 'boxx'", "did you mean 'box'?"),
        ("qqq", "unknown profile 'qqq'", "known: box"),
        (
            "there/qqq.json",
            "there/qqq.json: no such profile file",
            "measure this machine with: pruneaug profile --task TASK --platform qqq",
        ),
    ],
)
def test_an_unknown_profile_is_refused_with_the_nearest(written, name, message, hint):
    with pytest.raises(ProfileError) as error:
        find_profile(name, (written.parent,))
    assert (str(error.value), error.value.hint) == (message, hint)


def test_without_any_profile_the_hint_says_how_to_make_one(tmp_path):
    with pytest.raises(ProfileError, match="unknown profile 'box'") as error:
        find_profile("box", (tmp_path,))
    assert error.value.hint is not None
    assert "pruneaug profile --task TASK --platform box" in error.value.hint


def test_the_users_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_profile(make_profile(), tmp_path / "pruneaug" / "platforms" / "box.json")
    assert find_profile("box") == tmp_path / "pruneaug" / "platforms" / "box.json"
