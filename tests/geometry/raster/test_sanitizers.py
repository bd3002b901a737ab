"""The native code under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, without Python in the way."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[2] / "geometry" / "raster" / "csrc"
FLAGS = ["-std=c++17", "-O1", "-g", "-w", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-pthread"]
KERNELS = {
    "kernels_avx2": ["-mavx2", "-mfma"],
    "kernels_avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"],
}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_scene_is_clean(sanitizer: str, tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None or platform.machine() != "x86_64" or platform.system() != "Linux":
        pytest.skip("needs g++ on x86-64 Linux")
    # ThreadSanitizer cannot start before the loader has chosen among clones of a function.
    flags = [*FLAGS, f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-DHL_X86_KERNELS", f"-I{SOURCES}"]
    flags += ["-DHL_NO_CLONES"] if sanitizer == "thread" else []
    objects = []
    for source in [*sorted(SOURCES.glob("*.cpp")), HERE / "scene.cpp"]:
        if source.stem == "bindings":
            continue
        objects.append(str(tmp_path / f"{source.stem}.o"))
        extra = KERNELS.get(source.stem, [])
        subprocess.run([compiler, *flags, *extra, "-c", str(source), "-o", objects[-1]], check=True)
    program = tmp_path / "scene"
    built = subprocess.run(
        [compiler, *flags, *objects, "-o", str(program)], capture_output=True, text=True, check=False
    )
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip(f"no {sanitizer} sanitizer library here")
    assert built.returncode == 0, built.stderr
    for simd in ("scalar", "avx2", "avx512"):
        result = subprocess.run(
            [str(program)], capture_output=True, text=True, check=False, env={**os.environ, "HEADLAB_SIMD": simd}
        )
        assert result.returncode == 0 and not result.stderr, result.stdout + result.stderr
