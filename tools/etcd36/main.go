// The newest etcd, from the Go module proxy: tests run against it beside the distribution's older one.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
