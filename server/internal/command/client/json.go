package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// printJSON prints a message as a line of JSON. The library varies the space between
// tokens on purpose. Here it is taken out, so that the same answer is always printed
// as the same bytes.
func printJSON(stdout io.Writer, m proto.Message) error {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, b); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, line.String())
	return err
}
