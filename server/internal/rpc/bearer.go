package rpc

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/metadata"

	"xuncha/server/internal/accounts"
)

// bearer returns the token in the call's metadata, as RFC 6750 has it.
func bearer(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return "", fmt.Errorf("%w: there is none in authorization", accounts.ErrToken)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", fmt.Errorf("%w: want authorization: Bearer <token>", accounts.ErrToken)
	}
	return token, nil
}
