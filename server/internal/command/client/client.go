package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/command/serve"
)

// clientConfig is what every client command has.
type clientConfig struct {
	Server    string `default:"${address}" placeholder:"HOST:PORT" help:"Address of the server. Default: ${default}."`
	Username  string `placeholder:"NAME" help:"Account to sign in with. Default: none, which a server without accounts takes."`
	Token     string `help:"Access token to call with instead, such as that of an identity provider. Better given as XUNCHA_TOKEN."`
	Password  string `help:"The account's password. Better given as XUNCHA_PASSWORD, because others on the machine can read a command's arguments."`
	clientTLS `embed:""`
	Timeout   time.Duration `default:"2m" help:"How long the command may take. Default: ${default}."`
}

// call connects to the server and calls f, turning an error's details into
// what a person reads.
func (c clientConfig) call(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	secure, err := c.clientTLS.config()
	if err != nil {
		return err
	}
	if c.Username != "" && c.Token != "" {
		return errors.New("--token: is at odds with --username")
	}
	if secure == nil && (c.Username != "" || c.Token != "") && !serve.IsLoopback(c.Server) {
		return fmt.Errorf("--server %s: a password or a token goes to another machine over TLS alone; give --tls or --tls-ca", c.Server)
	}
	conn, err := dialTLS(c.Server, secure)
	if err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	return errors.Join(Readable(c.signedIn(ctx, conn, f)), conn.Close())
}

// signedIn calls f with a context whose calls are the account's, and signs out
// again.
func (c clientConfig) signedIn(ctx context.Context, conn *grpc.ClientConn, f func(context.Context, *grpc.ClientConn) error) error {
	if c.Token != "" {
		return f(withToken(ctx, c.Token), conn)
	}
	if c.Username == "" {
		return f(ctx, conn)
	}
	ctx, err := SignIn(ctx, conn, c.Username, c.Password)
	if err != nil {
		return err
	}
	err = f(ctx, conn)
	_, out := xunchav1.NewAccountServiceClient(conn).Logout(ctx, &xunchav1.LogoutRequest{})
	return cmp.Or(err, out)
}

// SignIn returns a context whose calls are the account's.
func SignIn(ctx context.Context, conn *grpc.ClientConn, username, password string) (context.Context, error) {
	answer, err := xunchav1.NewAccountServiceClient(conn).Login(ctx, &xunchav1.LoginRequest{
		Username: username, Password: password, DeviceName: "xuncha command",
	})
	return withToken(ctx, answer.GetAccessToken()), err
}

// withToken returns a context whose calls carry the token.
func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// Dial connects in plaintext.
func Dial(address string) (*grpc.ClientConn, error) { return dialTLS(address, nil) }

func dialTLS(address string, secure *tls.Config) (*grpc.ClientConn, error) {
	security := insecure.NewCredentials()
	if secure != nil {
		security = credentials.NewTLS(secure)
	}
	return grpc.NewClient(address, grpc.WithTransportCredentials(security))
}

// Readable names the fields that an error from the server is about.
func Readable(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	lines := []string{st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.FieldViolations {
				lines = append(lines, fmt.Sprintf("  %s: %s", v.Field, v.Description))
			}
		case *errdetails.ErrorInfo:
			lines[0] += " (" + d.Reason + ")"
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

// printJSON prints a message as JSON on a line of its own. The library varies
// the space between tokens on purpose; here there is none, so that the same
// answer is printed as the same bytes.
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

// CoverageCommand is "xuncha coverage".
type CoverageCommand struct {
	Division string    `arg:"" help:"Code of the division, such as 511600."`
	Depth    int32     `default:"1" help:"Levels below the division that are printed, 0 to 3. Default: ${default}."`
	Start    time.Time `help:"Beginning of the window, such as 2026-02-01T00:00:00+08:00. Default: the beginning of today."`
	End      time.Time `help:"End of the window. Default: the end of the day on which it begins."`
	Known    time.Time `help:"Print the figures as they were known at this time. Default: now."`
	JSON     bool      `name:"json" help:"Print the server's answer as a line of JSON."`
	clientConfig
}

// Run prints the coverage.
func (c *CoverageCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		answer, err := xunchav1.NewCoverageServiceClient(conn).GetCoverage(ctx, &xunchav1.GetCoverageRequest{
			DivisionCode: c.Division, Depth: c.Depth,
			StartTime: optional(c.Start), EndTime: optional(c.End), KnownTime: optional(c.Known),
		})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(stdout, answer)
		}
		return PrintCoverage(stdout, answer)
	})
}

func optional(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// PrintCoverage prints a table with a row for each division, those below one
// indented.
func PrintCoverage(stdout io.Writer, answer *xunchav1.GetCoverageResponse) error {
	t := newTable("division", "code", "due", "inspected", "overdue", "never", "open", "check-ins", "late", "synced late", "cancelled", "dispersed")
	t.right(2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	var walk func(*xunchav1.GetCoverageResponse, string)
	walk = func(a *xunchav1.GetCoverageResponse, indent string) {
		r := a.Row
		t.add(indent+r.DivisionName, r.DivisionCode, count(r.SitesDue), count(r.SitesInspected), count(r.SitesOverdue),
			count(r.SitesNeverInspected), count(r.SitesFoundOpen), count(r.CheckIns), count(r.VisitedLate),
			count(r.SyncedLate), count(r.CancelledEvents), count(r.DispersedPeople))
		for _, child := range a.Children {
			walk(child, indent+"  ")
		}
	}
	walk(answer, "")
	return t.print(stdout)
}

// HistoryCommand is "xuncha history".
type HistoryCommand struct {
	Site    string `arg:"" help:"Id or registration number of the site."`
	Limit   int    `default:"50" help:"Entries that are printed at most. Default: ${default}."`
	Records bool   `help:"With --json, the exact records too, from which the hashes can be computed."`
	JSON    bool   `name:"json" help:"Print a line of JSON for each entry."`
	clientConfig
}

// Run prints the history.
func (c *HistoryCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		id, err := findSite(ctx, conn, c.Site)
		if err != nil {
			return err
		}
		entries, err := ListHistory(ctx, conn, id, c.Limit, c.Records)
		if err != nil {
			return err
		}
		if !c.JSON {
			return PrintHistory(stdout, entries)
		}
		for _, e := range entries {
			if err := printJSON(stdout, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// findSite returns the id of the site with the id or registration number.
func findSite(ctx context.Context, conn *grpc.ClientConn, name string) (string, error) {
	if _, err := uuid.Parse(name); err == nil {
		return name, nil
	}
	roster := xunchav1.NewRosterServiceClient(conn)
	for page := (&xunchav1.ListSitesRequest{PageSize: 1000}); ; {
		answer, err := roster.ListSites(ctx, page)
		if err != nil {
			return "", err
		}
		for _, site := range answer.Sites {
			if site.RegistrationNo == name {
				return site.SiteId, nil
			}
		}
		if page.PageToken = answer.NextPageToken; page.PageToken == "" {
			return "", fmt.Errorf("no registered site has the registration number %q; of one that is struck off, give the id", name)
		}
	}
}

func ListHistory(ctx context.Context, conn *grpc.ClientConn, site string, most int, records bool) ([]*xunchav1.HistoryEntry, error) {
	audit := xunchav1.NewAuditServiceClient(conn)
	var out []*xunchav1.HistoryEntry
	page := &xunchav1.ListSiteHistoryRequest{SiteId: site, IncludeRecords: records}
	for len(out) < most {
		page.PageSize = int32(min(most-len(out), 200))
		answer, err := audit.ListSiteHistory(ctx, page)
		if err != nil {
			return nil, err
		}
		out = append(out, answer.Entries...)
		if page.PageToken = answer.NextPageToken; page.PageToken == "" {
			break
		}
	}
	return out, nil
}

func PrintHistory(stdout io.Writer, entries []*xunchav1.HistoryEntry) error {
	t := newTable("received", "history", "seq", "kind", "what", "hash")
	t.right(2)
	for _, e := range entries {
		history, _, _ := strings.Cut(e.History, "/")
		t.add(e.ReceiveTime.AsTime().Local().Format(time.DateTime), history, count(e.Sequence),
			strings.ToLower(strings.TrimPrefix(e.Kind.String(), "ENTRY_KIND_")), describe(e), fmt.Sprintf("%x…", e.EntryHash[:6]))
	}
	return t.print(stdout)
}

// describe says in a line what an entry says.
func describe(e *xunchav1.HistoryEntry) string {
	switch c := e.Content.(type) {
	case *xunchav1.HistoryEntry_CheckIn:
		in := c.CheckIn
		parts := []string{
			strings.ToLower(strings.TrimPrefix(in.Finding.String(), "FINDING_")),
			fmt.Sprintf("%d events cancelled", in.CancelledEventCount), fmt.Sprintf("%d people dispersed", in.DispersedPeopleCount),
		}
		if in.DistanceM != nil {
			parts = append(parts, fmt.Sprintf("%.0f m from the site", *in.DistanceM))
		}
		switch n := len(in.Photos); n {
		case 0:
		case 1:
			parts = append(parts, "1 photo")
		default:
			parts = append(parts, fmt.Sprintf("%d photos", n))
		}
		for _, f := range in.Flags {
			parts = append(parts, strings.ToLower(strings.TrimPrefix(f.String(), "FLAG_")))
		}
		return strings.Join(parts, ", ")
	case *xunchav1.HistoryEntry_PhotoEvent:
		p := c.PhotoEvent
		text := fmt.Sprintf("photo %x… of check-in %s", p.Sha256[:6], p.CheckInId)
		if p.RetentionDays > 0 {
			return fmt.Sprintf("%s, %d days after its order ended", text, p.RetentionDays)
		}
		text += fmt.Sprintf(", %d bytes", p.StoredSizeBytes)
		if p.FirstCheckInId != "" {
			text += ", used before"
		}
		return text
	case *xunchav1.HistoryEntry_Site:
		return fmt.Sprintf("%s %s in %s", c.Site.RegistrationNo, c.Site.Name, c.Site.DivisionCode)
	case *xunchav1.HistoryEntry_ClosureOrder:
		o := c.ClosureOrder
		return fmt.Sprintf("%s, %s to %s", o.Number, o.StartTime.AsTime().Local().Format(time.DateTime), o.EndTime.AsTime().Local().Format(time.DateTime))
	case *xunchav1.HistoryEntry_ImportEvent:
		i := c.ImportEvent
		return fmt.Sprintf("%s: %d created, %d changed, %d ended", i.Source, i.Created, i.Changed, i.Ended)
	}
	return ""
}
