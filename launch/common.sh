#!/usr/bin/env bash
# Functions that the scripts in this folder share; each sources this file.
set -euo pipefail

fail() {
    echo "error: $*" >&2
    exit 1
}

# Prints its arguments as one line, quoted so that it can be pasted into a shell.
quoted() {
    local word line=""
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]] && line+=" $word" || line+=" ${word@Q}"
    done
    echo "${line# }"
}
