#!/usr/bin/env bash
# Compiles the CUDA sources for sm_80 and sm_90 into build/cuda: object files only, no GPU and no torch needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v nvcc >/dev/null; then
  echo "nvcc is not installed: the CUDA sources are not compiled"
  exit 0
fi
mkdir -p build/cuda
for source in geometry/raster/csrc/cuda/*.cu; do
  object=build/cuda/$(basename "${source%.cu}").o
  # As CMakeLists.txt does. No contraction: both triangles of an edge must get the same bits.
  nvcc -std=c++17 -O3 --fmad=false -Werror all-warnings -Xcompiler -fPIC,-Wall \
    -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -c "$source" -o "$object"
  echo "$object"
done
