// Package api owns the wire types of Waymark's status API and its Go client:
// the JSON shapes that programs outside rely on, and the problems that the
// service answers with. Ids of runs are decimal strings, times are RFC 3339 in
// UTC, and a time that has not come yet is absent.
//
// It imports nothing else of Waymark, and it must never decide anything: what a
// state means and who may do what is the service's business.
package api
