#!/usr/bin/env bash
# What the images run, and what runs without an engine too: Headlight, pinned, in a virtual environment.
#
#   docker/install.sh dependencies cpu|gpu VENV     everything but Headlight; needs pyproject.toml and constraints.txt
#   docker/install.sh headlight VENV                Headlight itself, from this source tree
#
# Which torch build is found is decided by pip's own configuration: PyPI's for Linux on x86-64 is made for CUDA.
set -euo pipefail

source_tree="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
constraints="$source_tree/constraints.txt"

pip_install() {
  "$venv/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --constraint "$constraints" \
    --no-build-isolation "$@"
}

pinned() { grep -E "^$1==" "$constraints"; }

extra() {
  "${venv}/bin/python" - "$source_tree/pyproject.toml" "$1" <<'PYTHON'
import sys, tomllib

project = tomllib.load(open(sys.argv[1], "rb"))["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"][sys.argv[2]]))
PYTHON
}

check_build() {
  local found
  found="$("$venv/bin/python" -c 'import torch; print("gpu" if torch.version.cuda or torch.version.hip else "cpu")')"
  [ "$found" = "$1" ] && return
  echo "install.sh: pip found a torch for $found, not for $1. Name the index that has it in pip's configuration;" \
    "in an image build: --secret id=pip,src=FILE." >&2
  exit 1
}

dependencies() {
  python3 -m venv "$venv"
  pip_install "$(pinned setuptools)" # builds what comes as source only
  pip_install "$(pinned torch)"
  check_build "$device"
  pip_install --requirement <(extra pipeline)
}

headlight() {
  local wheels
  wheels="$(mktemp -d)"
  "$venv/bin/python" -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir "$wheels" "$source_tree"
  pip_install --no-deps "$wheels"/headlight_xai-*.whl
  rm -r "$wheels"
  "$venv/bin/python" -m pip check
  "$venv/bin/headlight" --version
}

case "${1:-}" in
  dependencies) device="$2" venv="$3" && dependencies ;;
  headlight) venv="$2" && headlight ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2 && exit 4 ;;
esac
