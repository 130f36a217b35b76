// Package photos takes in the photos that check-ins declare, keeps them, and
// deletes them when their time is over.
//
// How a photo reaches the disk: its check-in declares its hash, size and type.
// The phone then sends its bytes, in as many uploads as the network needs, and
// each Upload adds them to what the Store has received. Once all have come, the
// photo is finished: package picture finds what there is of the picture, Keep
// stores that and nothing else, an entry in the site's history says so, and what
// was received is discarded. Whatever a crash interrupts is done again from what
// was received, by the phone's next upload or by Tend.
package photos
