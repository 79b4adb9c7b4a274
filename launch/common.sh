#!/usr/bin/env bash
# What the scripts beside this one share; they source it.
set -euo pipefail

fail() {
    echo "error: $*" >&2
    exit 1
}

# Words as one line that can be pasted.
quoted() {
    local word line=""
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]] && line+=" $word" || line+=" ${word@Q}"
    done
    echo "${line# }"
}
