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
