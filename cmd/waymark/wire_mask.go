package main

import (
	"context"
	"log/slog"
	"reflect"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/mask"
)

// serviceMask knows the secrets of the service itself, wherever the configuration
// has them. Those of a run are known to its runner alone.
func serviceMask(cfg *config.Config) (*mask.Mask, error) {
	m, err := mask.New(cfg.Runner.Mask)
	if err != nil {
		return nil, err
	}
	m.Add(secretsIn(reflect.ValueOf(*cfg), "")...)
	return m, nil
}

// secretsIn finds every secret in a part of the configuration; name is that of the
// field, or of the variable, that holds it.
func secretsIn(v reflect.Value, name string) []string {
	if secret, ok := v.Interface().(config.Secret); ok {
		if name == "Database" { // its URL says where the database is, which people need to read
			return mask.InURL(secret.Reveal())
		}
		return []string{secret.Reveal()}
	}
	var out []string
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				out = append(out, secretsIn(v.Field(i), f.Name)...)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			out = append(out, secretsIn(v.Index(i), name)...)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			found := secretsIn(v.MapIndex(key), key.String())
			if v.Type() == reflect.TypeFor[map[string]config.Secret]() && len(found) == 1 { // an environment
				found = mask.OfVariable(key.String(), found[0])
			}
			out = append(out, found...)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out = append(out, secretsIn(v.Elem(), name)...)
		}
	}
	return out
}

// maskedHandler takes secrets out of what is logged.
type maskedHandler struct {
	slog.Handler
	mask *mask.Mask
}

// Handle masks the message and every attribute of a record.
func (h maskedHandler) Handle(ctx context.Context, r slog.Record) error {
	masked := slog.NewRecord(r.Time, r.Level, h.mask.Known(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		masked.AddAttrs(h.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, masked)
}

// WithAttrs masks attributes that every record will have.
func (h maskedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	masked := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		masked[i] = h.attr(a)
	}
	return maskedHandler{h.Handler.WithAttrs(masked), h.mask}
}

// WithGroup passes the group on.
func (h maskedHandler) WithGroup(name string) slog.Handler {
	return maskedHandler{h.Handler.WithGroup(name), h.mask}
}

// attr masks one attribute. An error may say anything, and what looks random in it
// is no name of ours.
func (h maskedHandler) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, h.mask.Known(v.String()))
	case slog.KindGroup:
		var inside []any
		for _, one := range v.Group() {
			inside = append(inside, h.attr(one))
		}
		return slog.Group(a.Key, inside...)
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			return slog.String(a.Key, h.mask.Text(err.Error()))
		}
		if text := v.String(); h.mask.Known(text) != text {
			return slog.String(a.Key, h.mask.Known(text))
		}
	}
	return slog.Attr{Key: a.Key, Value: v}
}
