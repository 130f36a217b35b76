package serve

import (
	"errors"
	"log/slog"

	"xuncha/server/internal/wire"
)

// connectionConfig says how many connections a server has.
type connectionConfig struct {
	MaxConnections           int `default:"5000" placeholder:"N" help:"Most connections at once; 0 sets no limit. When there are more, one goes on which nobody has signed in yet, or nothing is under way. Default: ${default}."`
	MaxConnectionsPerAddress int `default:"1000" placeholder:"N" help:"The same from one address, such as that of an office, or one IPv6 network of 64 bits. This machine's own are not counted. Default: ${default}."`
}

const (
	// strangersHold is how many bytes of memory all connections together may hold on which
	// no good token was shown yet.
	strangersHold = 24 << 20
	// knownHold is the same of all others: that of 5,000 phones, of which 1,000 upload.
	knownHold = 512 << 20
)

// gate returns what lets connections in.
func (c connectionConfig) gate(behindProxy bool, log *slog.Logger) (*wire.Gate, error) {
	if c.MaxConnections < 0 || c.MaxConnectionsPerAddress < 0 {
		return nil, errors.New("--max-connections and --max-connections-per-address are numbers of connections; 0 sets no limit")
	}
	return wire.New(wire.Config{
		Connections: c.MaxConnections, PerAddress: c.MaxConnectionsPerAddress, Strangers: strangersHold, Known: knownHold,
		BehindProxy: behindProxy, Report: func(closed map[string]int) { reportClosed(log, closed) },
	}), nil
}

// reportClosed logs what a gate has closed. Phones that have gone without a word need nobody.
func reportClosed(log *slog.Logger, closed map[string]int) {
	var counts []any
	for _, reason := range []string{wire.Crowded, wire.Heavy, wire.Slow, wire.Trickle, wire.Idle} {
		counts = append(counts, reason, closed[reason])
	}
	if closed[wire.Crowded]+closed[wire.Heavy] > 0 {
		log.Warn("callers opened or sent too much, and connections were closed", counts...)
		return
	}
	log.Info("connections were closed", counts...)
}
