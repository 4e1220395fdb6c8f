# goenv.sh is sourced by the scripts that call the go command, once that is
# installed. It sets the variables that decide which code the go command compiles,
# for which machine, and with what beside it, so that neither the user's
# environment, nor `go env -w`, nor a go.work above the checkout decides. Where
# modules come from (GOPROXY and the like) stays the user's choice.
# Function HostGo of package images does the same for the rig.

unset GOBIN GOROOT
export GO111MODULE=on GOWORK=off
# The checkout may belong to another user, whose version control git does not trust.
export GOFLAGS='-mod=readonly -buildvcs=false'
GOOS=$(go env GOHOSTOS)
GOARCH=$(go env GOHOSTARCH)
export GOOS GOARCH

# build_rig builds bin/rig in the checkout $1, and has `rig version` name the commit.
# Where git does not trust a checkout of another user, whose configuration may name
# programs to run, the commit stays unknown.
build_rig() {
	local commit
	if commit=$(git -C "$1" log -1 --format='%H %cI' 2>/dev/null); then
		[[ -z $(git -C "$1" status --porcelain 2>/dev/null) ]] || commit+=' modified'
	fi
	go build -C "$1" -ldflags "-X 'main.builtFrom=$commit'" -o bin/rig ./rig
}
