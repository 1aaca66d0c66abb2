#!/bin/sh
# psmtp_symbols.sh HEADER SHARED STATIC MAN - libpsmtp defines exactly the names that its header declares, and no others;
# the man page names each of them.
set -eu
header=$1 shared=$2 static=$3 man=$4
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
sed -n 's/^PSMTP_API [^(]*\(psmtp_[a-z0-9_]*\)(.*/\1/p' "$header" | sort >"$dir/wanted"
# sanitizers and compilers add names that begin with an underscore
nm -D --defined-only "$shared" | awk '{ print $NF }' | grep -v '^_' | sort >"$dir/shared"
nm -g --defined-only "$static" | awk 'NF > 2 { print $NF }' | grep -v '^_' | sort >"$dir/static"
test -s "$dir/wanted"
diff -u "$dir/wanted" "$dir/shared"
diff -u "$dir/wanted" "$dir/static"
readelf -d "$shared" | grep -q 'SONAME.*\[libpsmtp\.so\.0\]'
for name in $(cat "$dir/wanted"); do
	grep -q "^\.Fn $name " "$man" || { echo "$man does not name $name"; exit 1; }
done
# no system call of its own: memory and text functions alone are taken from the C library
foreign=$(nm -D --undefined-only "$shared" | awk '{ print $NF }' | sed 's/@.*//' |
	grep -Ev '^(_|memchr$|memcmp$|bcmp$|memcpy$|memmove$|memset$|strlen$|strchr$|strcmp$|snprintf$|vsnprintf$|explicit_bzero$|abort$|malloc$|realloc$|free$)' || true)
if [ -n "$foreign" ]; then
	echo "libpsmtp takes more from outside than it should:" $foreign
	exit 1
fi
