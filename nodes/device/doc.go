// Package device owns a node's identity on disk: its device id, its key pair
// and the list of devices it trusts.
//
// Two files in one directory hold it, both JSON, both mode 0600:
//
//	device.json   {"id": "node-a", "private_key": "<64 hex>", "public_key": "<64 hex>"}
//	pairing.json  [{"id": "node-b", "public_key": "<64 hex>", "services": ["packagefs"]}]
//
// Whatever is wrong with them is said with the file, the field and the reason.
// The package never makes keys, never prints or returns a private key in an
// error, and never talks to another device.
package device
