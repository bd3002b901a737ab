#!/usr/bin/env bash
# Everything that is checked: lint, format, types, tests, CUDA compilation where nvcc exists.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup "[test]"
bin=$PWD/.venv/bin

say "ruff"
"$bin/ruff" check .
"$bin/ruff" format --check .
say "pyright"
PYRIGHT_PYTHON_IGNORE_WARNINGS=1 "$bin/pyright"
say "browser, virtual screen and glTF validator"
need_packages chromium || echo "chromium is not installed: the browser tests are skipped"
need_packages xvfb xdotool libvulkan1 mesa-vulkan-drivers libusb-1.0-0 libgl1 libegl1 libx11-6 libudev1 ||
  echo "the window's tests need these: they are skipped"
if command -v npm >/dev/null; then
  [ -d build/node_modules/gltf-validator ] || npm install --silent --no-audit --no-fund --prefix build gltf-validator playwright-core
else
  echo "npm is not installed: the Khronos validator and the browser tests are skipped"
fi
export HEADLAB_NODE_MODULES=$PWD/build/node_modules
say "CUDA sources"
bash scripts/compile_cuda.sh
say "pytest"
# As the command line sets them: no spinning threads on shared cores.
export OMP_WAIT_POLICY=PASSIVE OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
# From another folder, so that the installed package is what is tested.
(cd tests && HEADLAB_CACHE=${HEADLAB_CACHE:-$OLDPWD/build/cache} "$bin/python" -m pytest -q -n 2 --dist loadfile -c ../pyproject.toml --rootdir .. . "$@")
