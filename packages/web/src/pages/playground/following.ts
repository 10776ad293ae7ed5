import type { RefObject } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { turns } from './conversation.ts'

/** Pixels from the end of the page within which a reader is taken to be at its end. */
const NEAR = 160

/**
 * Keeps the end of the page in view while answers grow, for a reader who is there; whoever has scrolled up stays. A new
 * question is scrolled to in any case.
 */
export function useFollowing(growing: boolean): RefObject<HTMLDivElement | null> {
  const end = useRef<HTMLDivElement>(null)
  const count = turns.value.length
  const before = useRef(count)
  useEffect(() => {
    if (count > before.current) scrollToEnd()
    before.current = count
  }, [count])
  useEffect(() => {
    const content = end.current?.parentElement
    if (!growing || !content) return
    let atEnd = true
    const look = () => {
      atEnd = document.documentElement.scrollHeight - window.innerHeight - window.scrollY < NEAR
    }
    const grown = new ResizeObserver(() => {
      if (atEnd) scrollToEnd()
    })
    window.addEventListener('scroll', look, { passive: true })
    grown.observe(content)
    return () => {
      window.removeEventListener('scroll', look)
      grown.disconnect()
    }
  }, [growing, count > 0])
  return end
}

const scrollToEnd = () => window.scrollTo(0, document.documentElement.scrollHeight)
