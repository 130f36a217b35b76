package slow_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"xuncha/inspections"
	"xuncha/inspections/coverage/slow"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// A world is one store, two servers on it, and what happened so far.
type world struct {
	t       *rapid.T
	store   *ledgertest.Memory
	rows    *sitestest.MemoryRows
	servers [2]*server
	now     time.Time
	ids     int

	levels    []level
	sites     []string
	orders    []sites.OrderID
	submitted []submission

	// notable are moments near which more is to happen, and received are those at
	// which something was received.
	notable, received []time.Time
	// script tells what happened, one deed a line.
	script []string

	asked  []inspections.Question
	stamps map[string]stamped
	all    *slow.World // nil once something was stored since it was read
}

// A submission is a call of Submit.
type submission struct {
	inspections.CheckIn
	clientTime time.Time
}

// A level has the codes among which tables draw, and those of the last table.
type level struct {
	name   string
	all    []sites.DivisionCode
	latest []sites.DivisionCode
}

// allLevels are all that a world can have, the widest first.
var allLevels = []level{
	{name: "nation", all: []sites.DivisionCode{"100000"}},
	{name: "province", all: []sites.DivisionCode{"510000", "520000"}},
	{name: "city", all: []sites.DivisionCode{"510100", "510200", "520100"}},
	{name: "county", all: []sites.DivisionCode{"510101", "510102", "520101"}},
	{name: "township", all: []sites.DivisionCode{"510101001", "510101002", "520101001"}},
	{name: "village", all: []sites.DivisionCode{"510101001001", "510101001002", "510101002001", "520101001001", "520101001002"}},
}

const day = 24 * time.Hour

// newWorld returns a world with divisions, sites and an order.
func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, store: ledgertest.New(t), rows: new(sitestest.MemoryRows),
		now: time.Date(2020, 1, 20, 8, 0, 0, 0, time.UTC), stamps: map[string]stamped{},
	}
	widest := rapid.IntRange(0, 2).Draw(t, "widest level")
	for i, l := range allLevels[widest:] {
		if i == 0 || l.name == "village" || rapid.Bool().Draw(t, l.name) {
			w.levels = append(w.levels, l)
		}
	}
	skew := rapid.SampledFrom([]time.Duration{0, -90 * time.Minute, 3 * time.Minute, 5 * time.Hour}).Draw(t, "skew of B's clock")
	w.servers = [2]*server{
		newServer(t, "A", w.store, w.rows, w.clock(0), w.newID),
		newServer(t, "B", w.store, w.rows, w.clock(skew), w.newID),
	}
	w.script = append(w.script, fmt.Sprintf("B's clock is %s ahead.", skew))
	w.importTable(w.servers[0], w.drawTable(0), "2020-01-01")
	if len(w.script) == 1 {
		t.Fatal("the first table was refused")
	}
	w.servers[1].catchUp(t)
	w.createSite(time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC))
	for range rapid.IntRange(0, 11).Draw(t, "more sites") {
		w.createSite(w.registered())
	}
	w.issueOrder()
	return w
}

func (w *world) newID() string { w.ids++; return fmt.Sprintf("id-%04d", w.ids) }

// clock returns a clock that is ahead of the world's.
func (w *world) clock(ahead time.Duration) func() time.Time {
	return func() time.Time { return w.now.Add(ahead) }
}

// did notes what became of a deed. What the rules refuse has not happened.
func (w *world) did(s *server, err error, format string, args ...any) bool {
	w.t.Helper()
	if err != nil {
		var field *sites.FieldError
		var rows *sites.ImportError
		if !errors.As(err, &field) && !errors.As(err, &rows) && !errors.Is(err, sites.ErrSiteStruckOff) && !errors.Is(err, sites.ErrSiteUnknown) {
			w.t.Fatalf("%s\n%s: %v", strings.Join(w.script, "\n"), fmt.Sprintf(format, args...), err)
		}
		return false
	}
	w.script = append(w.script, fmt.Sprintf("%s %s: ", short(s.now()), s.name)+fmt.Sprintf(format, args...))
	w.received = append(w.received, s.now())
	w.all = nil
	return true
}

// short writes a moment of the year 2020.
func short(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return strings.TrimSuffix(strings.TrimPrefix(t.UTC().Format("2006-01-02T15:04:05.999999999"), "2020-"), ":00")
}

// anyServer returns one of the servers, which mostly has heard of everything.
func (w *world) anyServer() *server {
	s := w.servers[rapid.IntRange(0, 1).Draw(w.t, "server")]
	if rapid.IntRange(0, 6).Draw(w.t, "has not heard") < 6 {
		s.catchUp(w.t)
	}
	return s
}

func (w *world) nanosecond() time.Duration {
	return rapid.SampledFrom([]time.Duration{0, -1, 1}).Draw(w.t, "nanosecond")
}

var intervals = []time.Duration{day, 6 * time.Hour, time.Hour, 2 * day, day + 1}

// border returns a moment at, or a nanosecond beside, something notable, or an
// interval later, or any moment of the last days.
func (w *world) border(label string) time.Time {
	switch kind := rapid.IntRange(0, 5).Draw(w.t, label); {
	case kind == 0 || len(w.notable) == 0:
		return w.now.Add(time.Duration(rapid.IntRange(-30, 6).Draw(w.t, label)) * 6 * time.Hour)
	case kind == 1:
		return w.now.Add(w.nanosecond())
	case kind == 2:
		at := rapid.SampledFrom(w.notable).Draw(w.t, label)
		return at.Add(rapid.SampledFrom(intervals).Draw(w.t, "interval") + w.nanosecond())
	default:
		return rapid.SampledFrom(w.notable).Draw(w.t, label).Add(w.nanosecond())
	}
}

func (w *world) note(moments ...time.Time) { w.notable = append(w.notable, moments...) }

// advance lets time pass.
func (w *world) advance() {
	steps := []time.Duration{time.Hour, day, 6 * time.Hour, 1, 10 * time.Minute, 2 * time.Minute, 3 * day}
	w.now = w.now.Add(rapid.SampledFrom(steps).Draw(w.t, "time passes"))
}

// askBehind asks a server that may not have heard of everything, so that it keeps an
// answer that may be wrong later.
func (w *world) askBehind() {
	s := w.anyServer()
	// What it does not know yet it cannot answer, so this answer is not compared.
	_, _, _ = s.report(w.t.Context(), w.question())
}

// codes returns every code that a table may have.
func (w *world) codes() []sites.DivisionCode {
	var out []sites.DivisionCode
	for _, l := range w.levels {
		out = append(out, l.all...)
	}
	return out
}

// drawTable draws a division table. Of the divisions that are not the first of their
// level, one in oneIn is left out; 0 leaves out none.
func (w *world) drawTable(oneIn int) []sites.DivisionRow {
	var rows []sites.DivisionRow
	for i := range w.levels {
		l := &w.levels[i]
		l.latest = nil
		var parents []sites.DivisionCode
		for _, wider := range w.levels[:i] {
			parents = append(parents, wider.latest...)
		}
		for n, code := range l.all {
			if n > 0 && oneIn > 0 && rapid.IntRange(1, oneIn).Draw(w.t, "left out") == oneIn {
				continue
			}
			row := sites.DivisionRow{
				Row: len(rows) + 1, Code: string(code), Level: l.name,
				Name: rapid.SampledFrom([]string{"Old", "New"}).Draw(w.t, "name"),
			}
			// A province or a city may be a root beside the widest divisions.
			mayBeRoot := l.name == "province" || l.name == "city"
			if i > 0 && !(mayBeRoot && rapid.IntRange(0, 4).Draw(w.t, "root") == 4) {
				row.Parent = string(rapid.SampledFrom(parents).Draw(w.t, "parent"))
			}
			l.latest = append(l.latest, code)
			rows = append(rows, row)
		}
	}
	return rows
}

// importDivisions imports another table, or the part of it below one division.
func (w *world) importDivisions() {
	rows := w.drawTable(5)
	if top := rapid.SampledFrom(rows).Draw(w.t, "top"); top.Level != "village" && rapid.Bool().Draw(w.t, "only below") {
		kept := map[string]bool{top.Code: true}
		rows = slices.DeleteFunc(rows, func(r sites.DivisionRow) bool {
			kept[r.Code] = kept[r.Code] || kept[r.Parent]
			return !kept[r.Code]
		})
	}
	s := w.anyServer()
	w.importTable(s, rows, w.now.Add(time.Duration(rapid.IntRange(-8, 5).Draw(w.t, "effective"))*day).Format(time.DateOnly))
}

func (w *world) importTable(s *server, rows []sites.DivisionRow, effective string) {
	var text strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&text, " %s<%s(%s)", r.Code, r.Parent, r.Name)
	}
	_, err := s.roster.ImportDivisions(w.t.Context(), sites.By{Account: "admin"}, sites.Import{Effective: effective}, rows)
	if w.did(s, err, "divisions as of %s:%s", effective, &text) {
		from, _ := time.Parse(time.DateOnly, effective)
		w.note(from)
	}
}

// village returns one of the villages, of which two have most of the sites.
func (w *world) village() sites.DivisionCode {
	all := w.levels[len(w.levels)-1].all
	if rapid.Bool().Draw(w.t, "a large village") {
		all = all[:2]
	}
	return rapid.SampledFrom(all).Draw(w.t, "village")
}

// registered draws since when a site is registered, mostly before everything else.
func (w *world) registered() time.Time {
	if rapid.IntRange(0, 2).Draw(w.t, "registered late") == 2 {
		return w.border("registered")
	}
	return time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)
}

// createSite registers a site.
func (w *world) createSite(registered time.Time) {
	s := w.anyServer()
	// The order by number is another than that by id.
	no := fmt.Sprintf("S%02d", (len(w.sites)*7+3)%100)
	site, err := s.roster.CreateSite(w.t.Context(), sites.By{Account: "admin"}, sites.NewSite{
		RegistrationNo: no, Name: no, Division: w.village(), Registered: registered,
	})
	if err == nil {
		w.sites = append(w.sites, string(site.ID))
		w.note(registered)
		w.did(s, err, "site %s (%s) in %s, registered %s", no, site.ID, site.Places[0].Division, short(registered))
	} else {
		w.did(s, err, "site %s", no)
	}
}

// site returns a site and its registration number.
func (w *world) site() (sites.SiteID, string) {
	id := sites.SiteID(rapid.SampledFrom(w.sites).Draw(w.t, "site"))
	for _, s := range w.servers {
		if site, err := s.roster.Roster().SiteEver(id); err == nil {
			return id, site.RegistrationNo
		}
	}
	w.t.Fatal("no server has the site")
	return "", ""
}

// moveSite moves a site, and sometimes back again later.
func (w *world) moveSite() {
	id, no := w.site()
	s := w.anyServer()
	move := func(to sites.DivisionCode, from time.Time) bool {
		_, err := s.roster.MoveSite(w.t.Context(), sites.By{Account: "admin"}, id, "", sites.Place{Division: to, From: from})
		if !w.did(s, err, "move %s to %s from %s", no, to, short(from)) {
			return false
		}
		w.note(from)
		return true
	}
	site, err := s.roster.Roster().Site(id)
	if err != nil {
		return // the server has not heard of it
	}
	back, from := site.PlaceAt(s.now()).Division, w.border("moved")
	if move(w.village(), from) && rapid.IntRange(0, 2).Draw(w.t, "and back") > 0 {
		after := []time.Duration{day, 6 * time.Hour, 1, 3 * day}
		move(back, from.Add(rapid.SampledFrom(after).Draw(w.t, "after")))
	}
}

func (w *world) strikeOff() {
	id, no := w.site()
	s, at := w.anyServer(), w.border("struck off")
	_, err := s.roster.DeregisterSite(w.t.Context(), sites.By{Account: "admin"}, id, "", at)
	if w.did(s, err, "strike off %s at %s", no, short(at)) {
		w.note(at)
	}
}

func (w *world) updateSite() {
	id, no := w.site()
	s, name := w.anyServer(), rapid.SampledFrom([]string{"One", "Two"}).Draw(w.t, "name")
	_, err := s.roster.UpdateSite(w.t.Context(), sites.By{Account: "admin"}, id, "", sites.SiteUpdate{Name: &name})
	w.did(s, err, "name %s %s", no, name)
}

// importSites imports a table that registers, corrects, moves and strikes off.
func (w *world) importSites() {
	s := w.anyServer()
	someDay := func(label string) string {
		return w.now.Add(time.Duration(rapid.IntRange(-15, 4).Draw(w.t, label)) * day).Format(time.DateOnly)
	}
	var rows []sites.SiteRow
	for n := range rapid.IntRange(1, 3).Draw(w.t, "rows") {
		_, no := w.site()
		row := sites.SiteRow{Row: n + 1, RegistrationNo: no}
		if rapid.IntRange(0, 4).Draw(w.t, "of a new site") == 4 {
			row.RegistrationNo = fmt.Sprintf("T%03d", (w.ids*7)%1000)
			row.Name, row.Division, row.RegisteredOn = "Imported", string(w.village()), someDay("registered")
		}
		switch rapid.IntRange(0, 3).Draw(w.t, "what") {
		case 0:
			row.RegisteredOn = someDay("registered")
		case 1:
			row.Division = string(w.village())
		case 2:
			row.DeregisteredOn = someDay("struck off")
		case 3:
			row.RegisteredOn, row.DeregisteredOn = someDay("registered"), someDay("struck off")
		}
		rows = append(rows, row)
	}
	effective := someDay("effective")
	out, err := s.roster.ImportSites(w.t.Context(), sites.By{Account: "admin"}, sites.Import{Effective: effective}, rows)
	if w.did(s, err, "sites as of %s: %+v", effective, rows) {
		for _, row := range rows {
			site, err := out.Roster.SiteByRegistration(row.RegistrationNo)
			if err == nil && !slices.Contains(w.sites, string(site.ID)) {
				w.sites = append(w.sites, string(site.ID))
			}
		}
	}
}

// issueOrder issues an order that may overlap others, follow one, or go on longer.
func (w *world) issueOrder() {
	s := w.anyServer()
	o := sites.ClosureOrder{
		Number: fmt.Sprintf("O%d", len(w.orders)), Title: "t", IssuingAuthority: "a", LegalBasis: "b",
		Divisions: []sites.DivisionCode{rapid.SampledFrom(w.codes()).Draw(w.t, "division")},
		Start:     w.border("order starts"),
		Interval:  sites.Duration(rapid.SampledFrom(intervals).Draw(w.t, "interval")),
	}
	if len(w.orders) == 0 {
		// So that there is something to do from the beginning, mostly everywhere.
		o.Start = w.now.Add(-10 * day)
		if rapid.IntRange(0, 2).Draw(w.t, "only there") < 2 {
			o.Divisions = slices.Clone(w.levels[0].all)
		}
	} else if n := rapid.IntRange(0, len(w.orders)).Draw(w.t, "prolongs"); n < len(w.orders) {
		if old, err := s.roster.Roster().Order(w.orders[n]); err == nil {
			o.Divisions, o.Start = slices.Clone(old.Divisions), old.End.Add(-time.Duration(rapid.IntRange(-1, 3).Draw(w.t, "earlier"))*12*time.Hour)
		}
	}
	if also := rapid.SampledFrom(w.codes()).Draw(w.t, "division"); !slices.Contains(o.Divisions, also) && rapid.Bool().Draw(w.t, "also") {
		o.Divisions = append(o.Divisions, also)
	}
	lengths := []time.Duration{20 * day, 2 * day, 7 * day, 36 * time.Hour, 90 * day, 1}
	if len(w.orders) == 0 {
		lengths = lengths[:1]
	}
	o.End = o.Start.Add(rapid.SampledFrom(lengths).Draw(w.t, "length"))
	issued, err := s.roster.CreateOrder(w.t.Context(), sites.By{Account: "admin"}, o)
	if w.did(s, err, "order %s of %v from %s to %s, every %s", o.Number, o.Divisions, short(o.Start), short(o.End), time.Duration(o.Interval)) {
		w.orders = append(w.orders, issued.ID)
		w.note(o.Start, o.End)
	}
}

func (w *world) endOrder() {
	if len(w.orders) == 0 {
		return
	}
	n := rapid.IntRange(0, len(w.orders)-1).Draw(w.t, "order")
	s, end := w.anyServer(), w.border("order ends")
	_, err := s.roster.EndOrder(w.t.Context(), sites.By{Account: "admin"}, w.orders[n], end)
	if errors.Is(err, sites.ErrOrderUnknown) {
		return // the server has not heard of it
	}
	if w.did(s, err, "end O%d at %s", n, short(end)) {
		w.note(end)
	}
}

// revoke takes a change back, mostly one of the last, perhaps after one that rests on it.
func (w *world) revoke() {
	s := w.anyServer()
	revision := s.roster.Roster().Revision()
	if rapid.IntRange(0, 3).Draw(w.t, "of any time") == 0 {
		revision = ledger.Sequence(rapid.IntRange(1, int(revision)).Draw(w.t, "revision"))
	} else {
		revision = max(1, revision-ledger.Sequence(rapid.IntRange(0, 3).Draw(w.t, "before the last")))
	}
	_, err := s.roster.Revoke(w.t.Context(), sites.By{Account: "admin"}, revision, "by mistake")
	w.did(s, err, "take back revision %d", revision)
	var rests *sites.RestedOnError
	if errors.As(err, &rests) && rapid.Bool().Draw(w.t, "the other first") {
		_, err := s.roster.Revoke(w.t.Context(), sites.By{Account: "admin"}, ledger.Sequence(rests.Revision), "by mistake")
		w.did(s, err, "take back revision %d, on which nothing may rest before %d", rests.Revision, revision)
	}
}

// submit delivers a check-in, in whatever order and by whatever clock.
func (w *world) submit() {
	id, no := w.site()
	s := w.anyServer()
	in := submission{CheckIn: inspections.CheckIn{
		ID: inspections.CheckInID(fmt.Sprintf("c-%03d", len(w.submitted))), Site: id, Captured: w.border("captured"),
		Finding:         rapid.SampledFrom([]inspections.Finding{inspections.FoundClosed, inspections.FoundOpen, inspections.FoundInaccessible}).Draw(w.t, "finding"),
		CancelledEvents: rapid.Int32Range(0, 3).Draw(w.t, "cancelled"),
		DispersedPeople: rapid.Int32Range(0, 50).Draw(w.t, "dispersed"),
	}}
	if rapid.IntRange(0, 7).Draw(w.t, "phone is ahead") == 7 {
		in.Captured = s.now().Add(rapid.SampledFrom([]time.Duration{1, 3 * time.Minute, 5 * time.Minute}).Draw(w.t, "ahead"))
	} else if in.Captured.After(s.now()) || rapid.Bool().Draw(w.t, "just visited") {
		in.Captured = s.now().Add(-time.Duration(rapid.IntRange(0, 20).Draw(w.t, "hours ago")) * time.Hour)
	}
	if rapid.IntRange(0, 5).Draw(w.t, "clock is off") == 5 {
		off := rapid.SampledFrom([]time.Duration{-day, 3 * time.Hour, time.Minute}).Draw(w.t, "off")
		in.clientTime = s.now().Add(off)
		in.Captured = in.Captured.Add(off)
	}
	w.deliver(s, in, no)
}

func (w *world) deliver(s *server, in submission, no string) {
	stored, _, err := s.visits.Submit(w.t.Context(), inspections.By{Account: "officer"}, in.CheckIn, in.clientTime)
	if err != nil {
		w.did(s, err, "submit %s of %s", in.ID, no)
		return
	}
	w.submitted = append(w.submitted, in)
	w.note(stored.VisitTime())
	w.did(s, err, "check-in %s of %s (sequence %d), captured %s, %s %v", in.ID, no, stored.Entry.Sequence, short(stored.VisitTime()), stored.Finding, stored.Flags)
}

// retry delivers a check-in again, perhaps to another server.
func (w *world) retry() {
	if len(w.submitted) > 0 {
		in := rapid.SampledFrom(w.submitted).Draw(w.t, "again")
		_, duplicate, err := w.anyServer().visits.Submit(w.t.Context(), inspections.By{Account: "officer"}, in.CheckIn, in.clientTime)
		if err != nil || !duplicate {
			w.t.Fatalf("%s again: duplicate %v, %v", in.ID, duplicate, err)
		}
	}
}

// writeByHand stores what no rule of today's servers has looked at: a check-in at
// any moment, one of a site that is on no roster, or an entry of another kind.
func (w *world) writeByHand() {
	id, no := w.site()
	at := w.border("captured")
	d := ledger.Draft{
		History: id.History(), ID: w.newID(), Kind: inspections.KindCheckIn, Time: w.now, Account: "officer",
		Content: checkInContent(at, "open", []string{"synced_late", "visited_late"}, 1, 2),
	}
	switch rapid.IntRange(0, 3).Draw(w.t, "what") {
	case 2:
		d.History, no = sites.SiteID("nowhere").History(), "a site that is nowhere"
	case 3:
		d.Kind, d.Content = "sealed_door", []byte(`{"visit_time":"2020-01-20T08:00:00Z"}`)
	}
	if _, _, err := w.store.Append(w.t.Context(), d); err != nil {
		w.t.Fatal(err)
	}
	w.note(at)
	w.did(w.servers[0], nil, "written by hand: %s of %s, captured %s, open, synced late", d.Kind, no, short(at))
}

// checkInContent returns the content of a check-in's entry.
func checkInContent(visit time.Time, finding string, flags []string, cancelled, dispersed int) []byte {
	content, err := ledger.MarshalContent(struct {
		Captured  time.Time `json:"capture_time"`
		Visited   time.Time `json:"visit_time"`
		Order     string    `json:"closure_order_id"`
		Finding   string    `json:"finding"`
		Staff     bool      `json:"duty_staff_present"`
		Cancelled int       `json:"cancelled_event_count"`
		Dispersed int       `json:"dispersed_people_count"`
		Distance  *float64  `json:"distance_m"`
		Note      string    `json:"note"`
		Photos    []string  `json:"photos"`
		Flags     []string  `json:"flags"`
	}{visit, visit, "", finding, false, cancelled, dispersed, nil, "", []string{}, append([]string{}, flags...)})
	if err != nil {
		panic(err)
	}
	return content
}
