package engine

// Beyond returns the least text that is greater, in the order of bytes, than all texts that
// begin with the prefix. The prefix must end with a byte of ASCII below DEL.
func Beyond(prefix string) string {
	last := len(prefix) - 1
	return prefix[:last] + string([]byte{prefix[last] + 1})
}
