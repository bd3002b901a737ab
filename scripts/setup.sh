# Sourced by demo.sh and test.sh: a virtual environment in .venv with headlab and its pinned dependencies.
# Needs Python 3.10-3.12, a C++ compiler and the package registries. PYTHON chooses the interpreter.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\033[1m== %s\033[0m\n' "$*"; }

find_python() {
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.10 python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null &&
      { echo "$candidate"; return; }
  done
  echo "headlab needs Python 3.10, 3.11 or 3.12; set PYTHON to one" >&2
  exit 2
}

# Debian packages a step needs: installed when this is root on a Debian system, named otherwise.
need_packages() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "not installed: ${missing[*]}" >&2
    return 1
  fi
}

setup() {
  local extras=$1
  [ -d .venv ] || { say "creating .venv"; "$(find_python)" -m venv .venv; }
  # OpenCV inside MediaPipe links against these.
  need_packages libgl1 libglib2.0-0 || true
  local stamp=".venv/.headlab-$extras" fingerprint
  fingerprint=$(cat pyproject.toml constraints.txt CMakeLists.txt $(git ls-files '*.py' '*.cpp' '*.h' '*.cu' '*.js' '*.html' 2>/dev/null) | sha256sum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$fingerprint" ]; then
    say "installing headlab$extras"
    .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt ".$extras"
    echo "$fingerprint" >"$stamp"
  fi
}
