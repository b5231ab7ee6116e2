#!/bin/sh
# Print a Python that runs: `host` 3.11 or newer, `board` exactly 3.8, `training` exactly 3.11 on
# Linux x86-64, the last that onnxruntime-training has wheels for; `fleet` the oldest of 3.9 to 3.12,
# which Flower's release for boards runs on. Prints nothing where none is.
# A name on PATH is not enough: pyenv's shims exist for versions that are not switched on.

runs() { # candidate, condition on sys.version_info
    "$1" -c "import sys; sys.exit(not ($2))" 2>/dev/null
}

first() { # condition, candidates by preference
    condition=$1
    shift
    for candidate in "$@"; do
        if runs "$candidate" "$condition"; then
            echo "$candidate"
            return
        fi
    done
}

pyenv_versions=${PYENV_ROOT:-$HOME/.pyenv}/versions
case $1 in
host)
    first "sys.version_info >= (3, 11)" \
        python3 python3.14 python3.13 python3.12 python3.11 "$pyenv_versions"/3.1[1-9]*/bin/python3
    ;;
board)
    first "sys.version_info[:2] == (3, 8)" python3.8 python3 "$pyenv_versions"/3.8*/bin/python3
    ;;
training)
    [ "$(uname -sm)" = "Linux x86_64" ] &&
        first "sys.version_info[:2] == (3, 11)" \
            python3.11 python3 "$pyenv_versions"/3.11*/bin/python3
    ;;
fleet)
    first "(3, 9, 2) <= sys.version_info < (3, 13)" python3.9 "$pyenv_versions"/3.9*/bin/python3 \
        python3.10 "$pyenv_versions"/3.10*/bin/python3 python3.11 python3.12 python3
    ;;
*)
    echo "usage: find_python.sh host|board|training|fleet" >&2
    exit 2
    ;;
esac
