#!/bin/sh
# prelink.sh OUT.a OBJCOPY OBJECT... - one relocatable object in which only psmtp_* is global, as a static library.
#
# A program that links libpsmtp.a must not meet our internal names (buf_add, view_eq, ...): they become local here, as
# they are hidden in the shared library.
set -eu
out=$1 objcopy=$2
shift 2
object=${out%.a}.o
ld -r -o "$object" "$@"
"$objcopy" --wildcard --keep-global-symbol='psmtp_*' "$object"
rm -f "$out"
ar rcs "$out" "$object"
rm -f "$object"
