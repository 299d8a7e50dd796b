#!/bin/sh
# Make a virtual environment, and fill it: tools/ready.sh .venv requirements.txt
# It is made anew for another PYTHON, and filled once for each text of requirements.
venv=$1 needs=$2
made_by=$(cat "$venv/made-by" 2>/dev/null)
python=${PYTHON:-${made_by:-$(cat .venv/made-by 2>/dev/null || echo python3)}}

try() { # whether a Python can run this ($1), or else say what to do ($2)
    "$python" -c "$1" 2>/dev/null || { echo "$2" >&2 && exit 2; }
}

if [ "$python" != "$made_by" ] || [ ! -x "$venv/bin/python" ]; then
    try '' "$python does not run: name another with make PYTHON=..."
    try 'import sys; sys.exit(sys.version_info < (3, 11))' \
        "This needs Python 3.11 or later: name one with make PYTHON=python3.13"
    try 'import ensurepip, venv' \
        "$python has no venv module: on Debian and Ubuntu, apt install python3-venv"
    "$python" -m venv --clear "$venv" && echo "$python" >"$venv/made-by" || exit
fi

filled=$venv/has-$(cksum <"$needs" | tr ' ' -)
if [ ! -e "$filled" ]; then
    echo "Filling $venv from $needs"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$needs" &&
        touch "$filled"
fi
