package demo

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"slices"
)

// demoSecrets is the metadata that a phone writes into a photo: who took it, and where.
// The server takes it out before it stores the photo.
const demoSecrets = "Exif\x00\x00样例手机 N 30.4560 E 106.6300 样例干部"

// demoPhoto draws a closed door with a notice, and returns it as a JPEG with metadata.
func demoPhoto() ([]byte, error) {
	const width, height = 640, 480
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	wall, door := uint8(140+rand.IntN(60)), uint8(60+rand.IntN(60))
	for y := range height {
		for x := range width {
			grain := uint8(rand.IntN(12))
			c := color.RGBA{wall + grain, wall + grain, wall - 10 + grain, 255}
			switch {
			case x > 220 && x < 420 && y > 120 && (x < 318 || x > 322):
				c = color.RGBA{door + 60 + grain, door + grain, door/2 + grain, 255}
			case y > 400:
				c = color.RGBA{90 + grain, 90 + grain, 90 + grain, 255}
			}
			if x > 350 && x < 400 && y > 200 && y < 270 { // the notice
				c = color.RGBA{235 + grain, 235 + grain, 225 + grain, 255}
			}
			m.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		return nil, err
	}
	length := len(demoSecrets) + 2
	head := append([]byte{0xff, 0xe1, byte(length >> 8), byte(length)}, demoSecrets...)
	return slices.Concat(b.Bytes()[:2], head, b.Bytes()[2:]), nil
}
