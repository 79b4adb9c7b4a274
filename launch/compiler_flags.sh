#!/usr/bin/env bash
# Prints a generation's flags of compiler_flags.txt on one line, for LIBTPU_INIT_ARGS (of GPUs XLA_FLAGS).
set -euo pipefail

FILE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/compiler_flags.txt
if [[ $# -ne 1 || $1 == -* ]]; then
    echo "usage: compiler_flags.sh GENERATION, such as v5e" >&2
    exit 1
fi
awk -v wanted="$1" '
    $1 == "generations:" { for (i = 2; i <= NF; i++) known = known " " $i; next }
    $1 ~ /^--/ { split($2, names, ","); for (i in names) if (names[i] == wanted) line = line " " $1 }
    END {
        if (index(known " ", " " wanted " ") == 0) {
            print "error: compiler_flags.txt has no generation " wanted "; there are" known >"/dev/stderr"
            exit 1
        }
        print substr(line, 2)
    }
' "$FILE"
