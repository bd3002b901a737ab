#!/usr/bin/env bash
# Fits a real photo (the astronaut portrait of scikit-image, NASA, public domain), writes everything to out/demo, and
# gives the photo other expressions in out/demo-expressions.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup ""
out=${1:-out/demo}
photo=$(mktemp -d)/astronaut.png
trap 'rm -rf "$(dirname "$photo")"' EXIT
.venv/bin/python -c "
import sys
from skimage import data, io
io.imsave(sys.argv[1], data.astronaut(), check_contrast=False)" "$photo"
say "fitting the astronaut's portrait"
.venv/bin/headlab fit "$photo" -o "$out" --overwrite
say "giving her other expressions"
.venv/bin/headlab transfer --source neutral surprise disgust --target "$out/head.npz" --photo "$photo" -o "$out-expressions" --overwrite
say "open $out/index.html and $out-expressions/strip.png"
