// Package page draws what people see in a browser: HTML from the wire types of
// the status API, one style sheet, and scripts that are served from here alone.
//
// It is told everything that it shows, and escapes all of it. It must never
// read the store, decide who may see what, or load anything from elsewhere.
//
// The templates are templ files; after a change, make generate writes the Go
// code beside them.
package page
