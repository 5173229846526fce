package relay

// LongHellos is how many bytes of long hellos are held beyond what is free.
func (e *Engine) LongHellos() int64 { return e.longHellos.Load() }
