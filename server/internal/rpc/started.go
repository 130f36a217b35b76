package rpc

import "errors"

// errStarting means that the server has not read yet what it has stored.
var errStarting = errors.New("the server is starting")

// started returns errStarting until the server is ready. Calls that came before would
// be answered from half of what is stored.
func (c *Config) started() error {
	if c.Ready == nil {
		return nil
	}
	select {
	case <-c.Ready:
		return nil
	default:
		return errStarting
	}
}
