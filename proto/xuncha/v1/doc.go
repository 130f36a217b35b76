// Package xunchav1 is Xuncha's API: what buf generates from the .proto files
// beside it, which are its documentation.
package xunchav1
