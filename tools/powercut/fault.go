package main

import "fmt"

// A fault is something that a server must not do, such as to lose what it has
// acknowledged. Any other error means that the run itself could not go on.
type fault struct{ error }

func (f fault) Unwrap() error { return f.error }

func faultf(format string, args ...any) error { return fault{fmt.Errorf(format, args...)} }
