package rpc

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"xuncha/inspections"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// This file brings together what the rules of the .proto files, the caller's divisions and
// the domain find wrong with a request, so that its caller mends all of it at once. It is
// at work only where something was found.

// refuse returns all that is wrong with a message that breaks rules of its .proto file.
func (c *calls) refuse(ctx context.Context, row access, m proto.Message, err error) error {
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	var f sites.Faults
	whole := true // so that one may look into it
	for _, v := range invalid.Violations {
		path := protovalidate.FieldPathString(v.Proto.GetField())
		f.Add(path, ruleError(v))
		if v.Proto.GetRuleId() == "required" && !strings.Contains(path, ".") {
			whole = false
		}
	}
	shortenCodes(m)
	if whole && row.inScope != nil {
		f.Join(row.inScope(scopeOf(ctx), m))
	}
	return c.complete(m, f.Err())
}

// largeMessage is how many bytes a message has whose lists are counted before anybody looks
// into them. One that is right in itself has less, but for a table's row or a photo's part.
const largeMessage = 32 << 10

// tooLongLists returns which lists of a large message have more items than they may, and
// nothing of the items: a request of 4 MB can have two million, and to say what is wrong with
// each would take more than a gigabyte.
func tooLongLists(m proto.Message) error {
	if proto.Size(m) < largeMessage {
		return nil
	}
	var f sites.Faults
	addTooLong(&f, m.ProtoReflect(), "")
	return f.Err()
}

func addTooLong(f *sites.Faults, m protoreflect.Message, path string) {
	m.Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch name := path + string(d.Name()); {
		case d.IsList():
			limit := limitOfRules(d)
			if most, ok := limit.most.(uint64); ok && limit.unit == sites.Items && uint64(v.List().Len()) > most {
				f.Join(sites.TooLong(name, v.List().Len(), int(most), sites.Items))
			}
		case d.Message() != nil && !d.IsMap():
			addTooLong(f, v.Message(), name+".")
		}
		return true
	})
}

// complete is Config.complete for what a handler gets.
func (c *calls) complete(req any, err error) error {
	if m, ok := req.(proto.Message); ok && err != nil {
		return c.config.complete(m, err)
	}
	return err
}

// complete returns an error about fields of the message together with all else that is
// wrong with that, in the order of the fields. Any other error stays as it is, and so does
// that of a request whose id was used: what that has made is in the way of much else.
func (c *Config) complete(m proto.Message, err error) error {
	found := sites.FieldErrorsOf(err)
	if found == nil || meaningOf(err).private || errors.Is(err, ledger.ErrRequestConflict) {
		return err
	}
	more := c.inItself(m)
	if more == nil && len(found) == 1 {
		return err
	}
	all := sites.JoinFaults(found, more)
	if list, ok := all.(sites.FieldErrors); ok {
		slices.SortStableFunc(list, func(a, b *sites.FieldError) int {
			d := m.ProtoReflect().Descriptor()
			return slices.Compare(placeOf(d, a.Field), placeOf(d, b.Field))
		})
	}
	return all
}

// placeOf returns where the field with the path stands in a message, for comparing.
func placeOf(d protoreflect.MessageDescriptor, path string) (place []int) {
	for part := range strings.SplitSeq(path, ".") {
		name, index, _ := strings.Cut(part, "[")
		if d == nil {
			return append(place, math.MaxInt)
		}
		field := d.Fields().ByName(protoreflect.Name(name))
		if oneof := d.Oneofs().ByName(protoreflect.Name(name)); field == nil && oneof != nil {
			field = oneof.Fields().Get(0)
		}
		if field == nil {
			return append(place, math.MaxInt)
		}
		place, d = append(place, field.Index()), field.Message()
		if n, err := strconv.Atoi(strings.TrimSuffix(index, "]")); err == nil {
			place = append(place, n)
		}
	}
	return place
}

// inItself returns what the domain finds wrong with a request, whatever else is: with its
// values, and, of what is to be made, with what there is already. It looks at nothing that
// is there and may be another's. A request of which it says nothing has no rules but those
// in the .proto files.
func (c *Config) inItself(m proto.Message) error {
	switch m := m.(type) {
	case *xunchav1.ImportDivisionsRequest:
		return c.header(m.GetHeader(), true)
	case *xunchav1.ImportSitesRequest:
		return c.header(m.GetHeader(), false)
	case *xunchav1.CreateSiteRequest:
		if m.Site == nil {
			return nil
		}
		site, err := toNewSite(m.Site)
		return inField("site", sites.JoinFaults(err, c.Roster.CheckNewSite(site)))
	case *xunchav1.UpdateSiteRequest:
		position, err := positionOf(m.Latitude, m.Longitude)
		return sites.JoinFaults(err, sites.SiteUpdate{Name: m.Name, Address: m.Address, Position: position}.Check())
	case *xunchav1.MoveSiteRequest:
		to, err := toPlace(m)
		return sites.JoinFaults(err, c.Roster.CheckPlace(to))
	case *xunchav1.DeregisterSiteRequest:
		_, err := timeOf("effective_time", m.EffectiveTime)
		return err
	case *xunchav1.CreateClosureOrderRequest:
		if m.ClosureOrder == nil {
			return nil
		}
		order, err := toOrder(m.ClosureOrder)
		return inField("closure_order", sites.JoinFaults(err, c.Roster.CheckOrder(order)))
	case *xunchav1.EndClosureOrderRequest:
		_, err := timeOf("end_time", m.EndTime)
		return err
	case *xunchav1.RevokeChangeRequest:
		return sites.CheckRevoke(ledger.Sequence(m.Revision), m.Reason)
	case *xunchav1.SubmitCheckInRequest:
		if m.CheckIn == nil {
			return nil
		}
		checkIn, err := toCheckIn(m.CheckIn)
		_, clock := timeOf("client_time", m.ClientTime)
		return sites.JoinFaults(inField("check_in", sites.JoinFaults(err, checkIn.Check())), clock)
	case *xunchav1.LoginRequest:
		return newPassword(m.NewPassword, m.Username)
	case *xunchav1.ChangePasswordRequest:
		return newPassword(m.NewPassword, "")
	case *xunchav1.CreateAccountRequest:
		if m.Account == nil {
			return nil
		}
		return inAccount(c.Accounts.Check(toNewAccount(m)))
	case *xunchav1.UpdateAccountRequest:
		return toChange(m).Check()
	}
	return c.inQuery(m)
}

// newPassword returns what is wrong with a new password, where one is given.
func newPassword(password, username string) error {
	if password == "" {
		return nil
	}
	return accounts.CheckPassword("new_password", password, username)
}

// header returns what is wrong with an import's header.
func (c *Config) header(h *xunchav1.ImportHeader, needsDay bool) error {
	if h == nil {
		return nil
	}
	in := toImport(h)
	if in.Effective == "" && !needsDay {
		in.Effective = "2000-01-01" // which is as good as today, which it means
	}
	return inField("header", c.Roster.CheckImport(in))
}

// inQuery returns what is wrong with a question in itself.
func (c *Config) inQuery(m proto.Message) error {
	var err error
	switch m := m.(type) {
	case *xunchav1.GetCoverageRequest:
		err = c.checkQuestion(c.question(sites.DivisionCode(m.DivisionCode), m.StartTime, m.EndTime, m.KnownTime))
	case *xunchav1.ListDueSitesRequest:
		err = c.checkQuestion(c.question(sites.DivisionCode(m.DivisionCode), m.StartTime, m.EndTime, m.KnownTime))
	case *xunchav1.ListCheckInsRequest:
		err = sites.JoinFaults(whose(m), c.checkQuestion(c.question(sites.DivisionCode(m.DivisionCode), m.StartTime, m.EndTime, m.KnownTime)))
	case *xunchav1.ListDivisionsRequest:
		_, err = timeOf("as_of_time", m.AsOfTime)
	case *xunchav1.GetDivisionRequest:
		_, err = timeOf("as_of_time", m.AsOfTime)
	case *xunchav1.GetSiteRequest:
		_, err = timeOf("as_of_time", m.AsOfTime)
	case *xunchav1.ListSitesRequest:
		_, err = timeOf("as_of_time", m.AsOfTime)
	case *xunchav1.ListClosureOrdersRequest:
		_, err = timeOf("in_force_time", m.InForceTime)
	case *xunchav1.ListAccessesRequest:
		_, _, err = span(m)
	}
	if list, ok := m.(interface{ GetPageToken() string }); ok {
		err = sites.JoinFaults(err, checkPageToken(list.GetPageToken(), queryOf(m)))
	}
	return err
}

// checkQuestion returns what is wrong with a question that was read with the error.
func (c *Config) checkQuestion(q inspections.Question, err error) error {
	if err != nil { // and the window is not known
		q.Start, q.End = time.Time{}, time.Time{}.Add(1)
	}
	return sites.JoinFaults(err, c.Inspections.CheckQuestion(q))
}
