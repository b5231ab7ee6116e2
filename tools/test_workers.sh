#!/bin/sh
# Prints how many processes the tests run in: a core and 2 GB each, two at most.
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
kilobytes=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo 2>/dev/null)
if [ "$cores" -ge 2 ] && [ "${kilobytes:-4000000}" -ge 4000000 ]; then
    echo 2
else
    echo 0
fi
