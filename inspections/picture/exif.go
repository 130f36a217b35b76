package picture

import (
	"bytes"
	"encoding/binary"
)

// exifPrefix stands before the TIFF structure of EXIF in a JPEG segment (EXIF
// 2.32, 4.7.2), and in some WebP files.
var exifPrefix = []byte("Exif\x00\x00")

// orientationTag is EXIF 2.32, 4.6.4 A.
const orientationTag = 0x0112

// orientationOf returns what the EXIF says of which side is up, 1 to 8; 1 also
// where it says nothing that can be read.
func orientationOf(exif []byte) int {
	tiff := bytes.TrimPrefix(exif, exifPrefix)
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.BigEndian
	switch string(tiff[:4]) {
	case "MM\x00\x2a":
	case "II\x2a\x00":
		order = binary.LittleEndian
	default:
		return 1
	}
	at := int64(order.Uint32(tiff[4:]))
	if at > int64(len(tiff)-2) {
		return 1
	}
	fields := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(fields) < 12 {
			break
		}
		if order.Uint16(fields) == orientationTag && order.Uint16(fields[2:]) == 3 && order.Uint32(fields[4:]) == 1 {
			if v := order.Uint16(fields[8:]); v >= 1 && v <= 8 {
				return int(v)
			}
		}
		fields = fields[12:]
	}
	return 1
}

// exifOf returns a TIFF structure that says which side is up and nothing else.
func exifOf(orientation int) []byte {
	b := []byte("MM\x00\x2a\x00\x00\x00\x08\x00\x01")           // one field, 8 bytes from the start
	b = binary.BigEndian.AppendUint16(b, orientationTag)        // of this tag,
	b = append(b, 0, 3, 0, 0, 0, 1, 0, byte(orientation), 0, 0) // one 16-bit number;
	return append(b, 0, 0, 0, 0)                                // no further directory
}
