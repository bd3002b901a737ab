"""Builds the CUDA module for host memory: its sources with launches turned into loops, over cuda_on_cpu.h."""

import re
import shutil
import subprocess
import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[2] / "geometry" / "raster" / "csrc" / "cuda"
LAUNCH = re.compile(r"(\w+)<<<(.+?), kThreads, 0, .+?>>>\((.*?)\);")


def build(folder: Path) -> ModuleType:
    """`_cuda` in the given folder, imported; skips the test where it cannot be built."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    nanobind = pytest.importorskip("nanobind")
    sources = []
    for source in sorted(SOURCES.glob("*.cu")):
        text = source.read_text()
        kernels, launches = LAUNCH.subn(r"launch(\2, kThreads, [&] { \1(\3); });", text)
        assert launches == text.count("<<<") > 0
        sources.append(folder / f"{source.stem}.cpp")
        sources[-1].write_text('#include "cuda_on_cpu.h"\n' + kernels)
    sources.append(folder / "bindings.cpp")
    sources[-1].write_text((SOURCES / "bindings.cpp").read_text().replace("nb::device::cuda", "nb::device::cpu"))
    root = Path(nanobind.source_dir()).parent
    includes = [SOURCES, HERE, nanobind.include_dir(), root / "ext/robin_map/include", sysconfig.get_path("include")]
    target = folder / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    flags = ["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
    sources.append(root / "src/nb_combined.cpp")
    command = [compiler, *flags, *(f"-I{path}" for path in includes), *map(str, sources), "-o", str(target)]
    subprocess.run(command, check=True)
    spec = spec_from_file_location("_cuda", target)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
