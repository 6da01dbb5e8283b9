#!/usr/bin/env bash
# Make a virtual environment and install Proteus into it, editable, in the tested versions.
#
#   requirements/install.sh VENV EXTRA[,EXTRA...]        e.g.  requirements/install.sh .venv quickstart,tests
#
# PYTHON  the interpreter to start from (default python3)
# TORCH   auto    keep the torch that PYTHON imports; where it has none, install the tested one (default)
#         tested  install the tested torch whatever PYTHON has
#         else    what to give to pip, e.g. TORCH='torch==2.11.0 torchvision==0.26.0'
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${1:?usage: requirements/install.sh VENV EXTRA[,EXTRA...]}
extras=${2:?usage: requirements/install.sh VENV EXTRA[,EXTRA...]}
base=${PYTHON:-python3}
torch=${TORCH:-auto}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
kept=$venv/.torch-is-the-users # decided once, when the environment is made; `make clean` forgets it

if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "Proteus needs Python 3.10 or newer, and '$base' is not: name another, e.g. make quickstart PYTHON=python3.11" >&2
    exit 1
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    if ! "$base" -m venv --clear "$venv"; then
        echo "'$base -m venv' failed: on Debian and Ubuntu install the package python3-venv first" >&2
        exit 1
    fi
    if [ "$torch" = auto ] && "$base" -c 'import torch' 2>/dev/null; then
        # Not --system-site-packages: where PYTHON is itself a virtual environment, that shows the packages of the
        # interpreter underneath instead of those installed in it. A path file shows exactly what PYTHON sees, after our own.
        "$base" - "$venv" <<'PY'
import pathlib, subprocess, sys
code = "import sysconfig; print(sysconfig.get_path('purelib'))"
own = subprocess.check_output([f"{sys.argv[1]}/bin/python", "-c", code], text=True).strip()
shown = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
pathlib.Path(own, "users_torch.pth").write_text("\n".join(shown) + "\n")
PY
        touch "$kept"
    elif [ "$torch" != auto ] && [ "$torch" != tested ]; then
        read -ra wanted <<<"$torch"
        "$venv/bin/python" -m pip install "${wanted[@]}"
        touch "$kept"
    fi
fi

constraints=$venv/constraints.txt
first=()
if [ -e "$kept" ]; then
    # Their torch, and torchvision if there is one, stay as they are: pinned to what they are, so that nothing else
    # that pip installs can pull in another.
    {
        grep -vE '^(torch|torchvision|triton|nvidia-[a-z0-9-]+)==' "$root/requirements/constraints.txt"
        "$venv/bin/python" - <<'PY'
import importlib.metadata as metadata
for name in ("torch", "torchvision"):
    try:
        print(f"{name}=={metadata.version(name)}")
    except metadata.PackageNotFoundError:
        pass
PY
    } >"$constraints"
    if ! "$venv/bin/python" -c 'import torch, sys; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6))'; then
        echo "Proteus needs torch 2.6 or newer, which '$base' does not give: update it, or run 'make clean' and then" \
            "the same command with TORCH=tested" >&2
        exit 1
    fi
    echo "keeping your own $(grep -E '^torch==' "$constraints")"
else
    cp "$root/requirements/constraints.txt" "$constraints"
    first=(torch torchvision)
fi

cd "$root"
"$venv/bin/python" -m pip install --constraint "$constraints" ${first[@]+"${first[@]}"} --editable ".[$extras]"
case ,$extras, in
*,quickstart,*) "$venv/bin/python" -m pip install --no-deps --requirement requirements/packaged.txt ;;
esac
case ,$extras, in
*,tests,*) "$venv/bin/python" -m pip install --constraint "$constraints" --no-deps --requirement requirements/guests.txt ;;
esac
