import { useEffect, useState } from 'preact/hooks'

/** A value once it has stayed the same for a while: what is typed is not asked about at every letter. */
export function useSettled<T>(value: T, milliseconds = 500): T {
  const [settled, setSettled] = useState(value)
  const key = JSON.stringify(value)
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds)
    return () => clearTimeout(timer)
  }, [key])
  return settled
}
