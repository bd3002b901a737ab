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
say "glTF validator"
if command -v npm >/dev/null; then
  [ -d build/node/node_modules/gltf-validator ] || npm install --silent --no-audit --no-fund --prefix build/node gltf-validator
  export HEADLAB_NODE_MODULES=$PWD/build/node/node_modules
else
  echo "npm is not installed: the Khronos validator is skipped"
fi
say "pytest"
# From another folder, so that the installed package is what is tested.
(cd tests && HEADLAB_CACHE=${HEADLAB_CACHE:-$OLDPWD/build/cache} "$bin/python" -m pytest -q -c ../pyproject.toml --rootdir .. . "$@")
