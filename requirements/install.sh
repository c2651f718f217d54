#!/bin/sh
# Installs lock.txt and this package into .venv, with $PYTHON or else python3, once it is known that
# this can be done. If it cannot, ends with status 2 and one line that says what to type.
set -eu
case ${PYTHON-} in
    /*) ;;
    */*) PYTHON=$PWD/$PYTHON ;; # a path from where it was typed
esac
cd "$(dirname "$0")/.."

fault_of() {
    "$1" requirements/check_python.py 2>/dev/null ||
        echo "$1 is missing or too old; type sudo apt install python3 python3-venv" \
            "(macOS: brew install python@3.13; conda: conda create -n welm python=3.13)"
}

python=${PYTHON:-python3}
fault=$(fault_of "$python")
if [ -n "$fault" ]; then
    for other in python3.13 python3.12 python3.11; do
        [ -z "$(fault_of "$other")" ] || continue
        again="PYTHON=$other sh requirements/install.sh"
        fault="${fault%%;*}; type the command again with PYTHON=$other before it: $again"
        break
    done
    echo "install.sh: $fault" >&2
    exit 2
fi

echo "Downloading about 1 GB, of which TensorFlow is 570 MB; .venv will take 3.6 GB"
"$python" -m venv .venv
.venv/bin/pip install --require-hashes -r requirements/lock.txt
.venv/bin/pip install --no-deps --no-build-isolation -e .
