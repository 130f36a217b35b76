package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// A phone reports one visit after the other, and goes on with the one that was not
// acknowledged, as the app does.
type phone struct {
	random *rand.Rand
	token  func() string
	// plain tells that it takes no photos, and powerless that power cuts break its server
	// off.
	plain, powerless bool
	current          *visit
}

// work reports visits until ctx ends. An error is a fault.
func (p *phone) work(ctx context.Context, b *book, s services) error {
	for ctx.Err() == nil {
		if p.current == nil {
			p.next(b)
		}
		if err := p.report(ctx, b, s); err != nil {
			if unanswered(err) {
				return nil
			}
			return err
		}
	}
	return nil
}

// settle has the visit that is under way acknowledged.
func (p *phone) settle(ctx context.Context, b *book, s services) error {
	if p.current == nil {
		return nil
	}
	return p.report(ctx, b, s)
}

// next begins a visit.
func (p *phone) next(b *book) {
	var id [16]byte
	for i := range 2 {
		binary.LittleEndian.PutUint64(id[8*i:], p.random.Uint64())
	}
	checkIn, err := uuid.NewRandomFromReader(bytes.NewReader(id[:]))
	if err != nil {
		panic(err) // there are enough bytes
	}
	v := &visit{checkIn: &xunchav1.CheckIn{
		CheckInId: checkIn.String(), SiteId: b.siteIDs[p.random.IntN(len(b.siteIDs))], CaptureTime: timestamppb.Now(),
		Finding: xunchav1.Finding_FINDING_CLOSED, CancelledEventCount: p.random.Int32N(3), DispersedPeopleCount: p.random.Int32N(500), Note: "门口已张贴通知",
	}}
	if !p.plain && p.random.IntN(4) == 0 {
		v.photo = newPhoto(p.random)
		v.checkIn.Photos = []*xunchav1.Photo{client.Declare(v.photo.content)}
	}
	b.note(func() { b.visits[v.checkIn.CheckInId] = v })
	p.current = v
}

// report sends what is not acknowledged of the current visit.
func (p *phone) report(ctx context.Context, b *book, s services) error {
	v := p.current
	if v.receipt == nil || p.random.IntN(8) == 0 {
		answer, err := once(ctx, p.token(), s.inspections.SubmitCheckIn, &xunchav1.SubmitCheckInRequest{CheckIn: v.checkIn})
		if err != nil {
			return whatCame(err, "the check-in %s", v.checkIn.CheckInId)
		}
		if v.receipt == nil {
			b.record(func() { v.receipt = answer.Receipt })
		} else if !sameReceipt(v.receipt, answer.Receipt) {
			return faultf("the check-in %s had the receipt %v and has now %v", v.checkIn.CheckInId, v.receipt, answer.Receipt)
		}
	}
	for v.photo != nil && !v.photo.done {
		if err := p.upload(ctx, b, s, v); err != nil {
			return whatCame(err, "the photo of the check-in %s", v.checkIn.CheckInId)
		}
	}
	p.current = nil
	return nil
}

// whatCame returns the error of a call that was not answered as it is, and any other as a
// fault.
func whatCame(err error, format string, args ...any) error {
	if unanswered(err) {
		return err
	}
	return faultf(format+": %w", append(args, err)...)
}

// sameReceipt reports whether two receipts say the same, but for what becomes of photos.
func sameReceipt(a, b *xunchav1.Receipt) bool {
	return a.Sequence == b.Sequence && bytes.Equal(a.EntryHash, b.EntryHash) && proto.Equal(a.ReceiveTime, b.ReceiveTime)
}

// upload sends what the server lacks of the photo, or only some of that.
func (p *phone) upload(ctx context.Context, b *book, s services, v *visit) error {
	ctx, cancel := context.WithTimeout(as(ctx, p.token()), callTimeout)
	defer cancel()
	sum := v.checkIn.Photos[0].Sha256
	state, err := s.photos.GetPhotoUpload(ctx, &xunchav1.GetPhotoUploadRequest{Sha256: sum, SiteId: v.checkIn.SiteId, CheckInId: v.checkIn.CheckInId})
	if err != nil {
		return err
	}
	if state.Stored {
		b.record(func() { v.photo.done = true })
		return nil
	}
	switch {
	case state.ReceivedBytes >= v.photo.received:
	case p.powerless && v.photo.sending && state.ReceivedBytes == 0:
		// Behind what was acknowledged, a power cut may have left bytes that nobody has
		// sent. The server has refused all of it then, and the phone begins again.
		b.note(func() { v.photo.received = 0 })
	default:
		return faultf("the server has %d bytes of a photo of which it had acknowledged %d", state.ReceivedBytes, v.photo.received)
	}
	from, to := state.ReceivedBytes, int64(len(v.photo.content))
	if p.random.IntN(3) == 0 {
		to = from + p.random.Int64N(to-from+1)
	}
	b.note(func() { v.photo.sending = true })
	stream, err := s.photos.UploadPhoto(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Spec{Spec: &xunchav1.PhotoUploadSpec{
		Sha256: sum, CheckInId: v.checkIn.CheckInId, SiteId: v.checkIn.SiteId, Offset: from,
	}}})
	for rest := bytes.NewBuffer(v.photo.content[from:to]); err == nil && rest.Len() > 0; {
		err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Data{Data: rest.Next(16 << 10)}})
	}
	answer, err := stream.CloseAndRecv() // and, after an error of Send, why
	switch {
	case status.Code(err) == codes.InvalidArgument && from > 0 && !v.photo.restarted:
		// Some of what had come did not survive. The phone begins again.
		b.note(func() { v.photo.received, v.photo.restarted = 0, true })
		return nil
	case err != nil:
		return err
	case answer.Stored:
		b.record(func() { v.photo.done = true })
	case answer.ReceivedBytes < to:
		return faultf("the server has %d bytes of a photo of which it was sent %d", answer.ReceivedBytes, to)
	default:
		b.record(func() { v.photo.received, v.photo.sending = answer.ReceivedBytes, false })
	}
	return nil
}

// newPhoto makes a picture of noise. Some have more in their file than the picture.
func newPhoto(random *rand.Rand) *photo {
	side := 20 + random.IntN(200)
	m := image.NewNRGBA(image.Rect(0, 0, side, side))
	for i := range side * side {
		v := random.Uint32()
		m.SetNRGBA(i%side, i/side, color.NRGBA{byte(v), byte(v >> 8), byte(v >> 16), 255})
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, m); err != nil {
		panic(err) // a buffer takes everything
	}
	p := &photo{content: b.Bytes(), stored: b.Bytes()}
	if random.IntN(3) == 0 {
		// Behind the signature and the header, which has 13 bytes.
		const behind = 8 + 12 + 13
		p.content = bytes.Join([][]byte{p.stored[:behind], chunk("tEXt", "Software\x00an app"), p.stored[behind:]}, nil)
	}
	return p
}

// chunk returns a part of a PNG file.
func chunk(kind, content string) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(content)))
	out = append(out, kind+content...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
}
