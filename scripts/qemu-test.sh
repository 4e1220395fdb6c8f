#!/usr/bin/env bash
#
# qemu-test.sh keeps the older contract of this test: it boots two machines, has
# one read a package file of the other, and judges by two markers,
#
#     dsoftbusd: remote packagefs served      on the node that serves
#     SELFTEST: remote pkgfs read ok          on the node that reads
#
#     RUN_TIMEOUT=90s        how long the machines may run; a number with s, m or h
#     RUN_UNTIL_MARKER=1     end, with success, as soon as both markers were seen;
#                            without it the machines run until the timeout
#
# Exit status 0 when both markers were seen, 1 when one is missing (it is named),
# 2 for a wrong setting, 3 when this host cannot run machines. Images are built
# before the time begins to count.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
timeout=${RUN_TIMEOUT:-90s}
if [[ ! $timeout =~ ^[1-9][0-9]*[smh]?$ ]]; then
	echo "qemu-test: RUN_TIMEOUT=$timeout is no duration: say 90s, 2m or 1h" >&2
	exit 2
fi

"$root/scripts/setup"
# shellcheck source=scripts/goenv.sh
. "$root/scripts/goenv.sh"
build_rig "$root"
rig=$root/bin/rig
"$rig" -C "$root" doctor

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scenario=$work/qemu-test.txtar
cat >"$scenario" <<'END'
# Node A reads a package file that node B serves.
up
sha256 WANT B/packages/system@1.0.0/build.prop
exec -within 24h A selftest-client remote-pkgfs -peer node-b -wait 24h -sha256 $WANT pkg:/system/build.prop
END
if [[ ${RUN_UNTIL_MARKER:-0} != 1 ]]; then
	# The machines run on; the timeout ends this wait.
	echo "! marker -within 24h * 'SELFTEST: .* FAIL'" >>"$scenario"
fi
cat >>"$scenario" <<'END'

-- B/packages/system@1.0.0/build.prop --
ro.nexus.build=dev
END

# A run that the timeout ends is judged by its markers like any other.
runs=$root/runs/qemu-test
status=0
timeout --signal=INT "$timeout" "$rig" -C "$root" run -runs "$runs" "$scenario" || status=$?

journals=$runs/latest/qemu-test
missing=0
check() {
	if ! grep -qsF "\"text\":\"$2\"" "$journals/$1/journal.jsonl"; then
		echo "qemu-test: missing marker on node $1: $2" >&2
		missing=1
	fi
}
check B 'dsoftbusd: remote packagefs served'
check A 'SELFTEST: remote pkgfs read ok'
if ((missing)); then
	exit 1
fi
# 124 and 130: the time was over, which is how a run without RUN_UNTIL_MARKER ends.
if ((status != 0 && status != 124 && status != 130)); then
	echo "qemu-test: both markers were seen, but the run failed: see above" >&2
	exit "$status"
fi
echo "qemu-test: both markers were seen"
