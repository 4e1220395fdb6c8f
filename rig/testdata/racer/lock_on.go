//go:build !race_lost

package main

import "sync"

type lock = sync.Mutex
