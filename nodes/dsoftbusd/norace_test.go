//go:build !race

package dsoftbusd

const raceEnabled = false
