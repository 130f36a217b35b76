package accounts

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// maxPlaces is how many networks are remembered of an account: those from which it was
	// signed in to last.
	maxPlaces = 16
	// forgiven is how many failures of an address a right password takes back: its owner's own
	// slips, so that an office can sign in at eight. An account does so once within forgotten,
	// or whoever has one could try as many others as they like.
	forgiven = 2
)

// places are the networks from which accounts were signed in to. They take as much memory as
// there are accounts.
type places struct {
	of      map[string][]string // by account, the last one at the end
	forgave map[string]time.Time
	sweep   int
}

func newPlaces() *places {
	return &places{of: map[string][]string{}, forgave: map[string]time.Time{}, sweep: sweepFrom}
}

// isHere reports whether a call comes from the server's own machine.
func isHere(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.Unmap().IsLoopback()
}

// turnOf returns where a try waits that shows nothing but the address: apart from strangers
// where nameBucket counts it apart. Of one network each waits behind the others.
func (t *throttle) turnOf(a *Account, address string) turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch from := network(address); {
	case isHere(address):
		return turn{known, "from here"}
	case a != nil && slices.Contains(t.places.of[a.ID], from):
		return turn{known, "from " + from}
	default:
		return turn{strangers, from}
	}
}

// nameBucket returns where failures of a name count that come from the address: apart where
// its account, which is nil for nobody's, was signed in to before, and on the server's own
// machine. t.mu must be held.
func (t *throttle) nameBucket(a *Account, name, address string) bucket {
	here, from := isHere(address), network(address)
	if here {
		from = "here"
	}
	switch {
	case a != nil && (here || slices.Contains(t.places.of[a.ID], from)):
		return bucket{deviceKey(a.ID, from), triesOfName, longestOfName, t.placed}
	case here: // as of a name that somebody has
		return bucket{"name/" + name + "@here", triesOfName, longestOfName, t.nobodys}
	case a != nil:
		return bucket{"name/" + name, triesOfName, longestOfName, t.names}
	}
	return bucket{"name/" + name, triesOfName, longestOfName, t.nobodys}
}

// signedIn notes that the account was signed in to from the address, by the right password:
// strangers elsewhere keep nobody waiting there from now on.
func (t *throttle) signedIn(account, address string, now time.Time) {
	from := network(address)
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.places
	if of := p.of[account]; !slices.Contains(of, from) || of[len(of)-1] != from {
		of = append(slices.DeleteFunc(of, func(other string) bool { return other == from }), from)
		p.of[account] = of[max(0, len(of)-maxPlaces):]
	}
	if last, ok := p.forgave[account]; ok && now.Sub(last) <= forgotten {
		return
	}
	if !t.addresses.forgive("address/"+from, forgiven, now) {
		return
	}
	p.forgave[account] = now
	if len(p.forgave) < p.sweep {
		return
	}
	for account, last := range p.forgave {
		if now.Sub(last) > forgotten {
			delete(p.forgave, account)
		}
	}
	p.sweep = max(sweepFrom, 2*len(p.forgave))
}
