"""Measured platforms: the profile file, the latency table made of it, where profiles are found."""

from pruneaug_cli.platforms.catalogue import find_profile, list_profiles
from pruneaug_cli.platforms.measurement import Measurement, PeerMeasurement
from pruneaug_cli.platforms.network import InPlace, NetworkMeasurement, NetworkSample
from pruneaug_cli.platforms.profile import Platform, Profile, write_profile
from pruneaug_cli.platforms.reader import read_profile
from pruneaug_cli.platforms.table import Estimate, LatencyTable

__all__ = [
    "Estimate",
    "InPlace",
    "LatencyTable",
    "Measurement",
    "NetworkMeasurement",
    "NetworkSample",
    "PeerMeasurement",
    "Platform",
    "Profile",
    "find_profile",
    "list_profiles",
    "read_profile",
    "write_profile",
]
