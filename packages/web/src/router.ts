/** Where the page is: one signal of the address, and links that change it without loading the document again. */
import { computed, signal } from '@preact/signals'

const address = signal(currentAddress())

function currentAddress() {
  const { pathname, search } = window.location
  return { path: pathname, search }
}

export const path = computed(() => address.value.path)
export const query = computed(() => new URLSearchParams(address.value.search))

/** Counts moves to another page, so that focus and scroll position can follow them. */
export const moves = signal(0)

export function navigate(to: string, { replace = false } = {}): void {
  const before = address.value.path
  if (replace) window.history.replaceState(null, '', to)
  else window.history.pushState(null, '', to)
  address.value = currentAddress()
  if (address.value.path !== before) moves.value++
}

/** Changes parts of the query, without a new entry in the history: filters, chosen tabs. null takes a part out. */
export function setQuery(changes: Record<string, string | null>): void {
  const next = new URLSearchParams(window.location.search)
  for (const [name, value] of Object.entries(changes))
    if (value === null || value === '') next.delete(name)
    else next.set(name, value)
  const text = next.toString()
  navigate(window.location.pathname + (text ? `?${text}` : ''), { replace: true })
}

/** `/experiments/:name` against a path: its parameters, or null. */
export function match(pattern: string, given: string): Record<string, string> | null {
  const wanted = pattern.split('/')
  const parts = given.replace(/(.)\/$/, '$1').split('/')
  if (wanted.length !== parts.length) return null
  const params: Record<string, string> = {}
  for (const [i, part] of wanted.entries()) {
    const value = parts[i] ?? ''
    if (part.startsWith(':')) {
      if (value === '') return null
      try {
        params[part.slice(1)] = decodeURIComponent(value)
      } catch {
        return null
      }
    } else if (part !== value) return null
  }
  return params
}

/** Plain `<a href="/…">` everywhere; those that lead to pages of ours are followed here. */
export function followLinks(isPage: (path: string) => boolean): void {
  document.addEventListener('click', (event) => {
    if (
      event.defaultPrevented ||
      event.button !== 0 ||
      event.metaKey ||
      event.ctrlKey ||
      event.shiftKey ||
      event.altKey
    )
      return
    const link = event.target instanceof Element ? event.target.closest('a') : null
    if (!link?.href || link.target || link.hasAttribute('download')) return
    const to = new URL(link.href)
    if (to.origin !== window.location.origin || !isPage(to.pathname)) return
    if (to.hash && to.pathname === window.location.pathname && to.search === window.location.search) return
    event.preventDefault()
    navigate(to.pathname + to.search)
  })
  window.addEventListener('popstate', () => {
    address.value = currentAddress()
    moves.value++
  })
}
