/**
 * Failpoints: places where tests make this process die or find the disk full. The engine's twin (failpoints.py) describes
 * the variable, which both read once: NAME[@N]=ACTION[~MARKER], separated by commas. Unset, a failpoint is one comparison.
 */
import { closeSync, openSync } from 'node:fs'

export const FAILPOINTS = 'MLX_TRAINING_FAILPOINTS'

interface Armed {
  at: number
  action: string
  marker: string | undefined
  passes: number
}

const armed = parse(process.env[FAILPOINTS] ?? '')

function parse(text: string): Map<string, Armed> | null {
  const found = new Map<string, Armed>()
  for (const spec of text.split(',').filter(Boolean)) {
    const [, name, at, action, marker] =
      /^([\w.-]+)(?:@(\d+))?=(kill|stop|hang|enospc|skip)(?:~(.+))?$/.exec(spec) ?? []
    if (name === undefined || action === undefined)
      throw new Error(`${FAILPOINTS}: "${spec}" is not NAME[@N]=ACTION[~MARKER]`)
    found.set(name, { at: Number(at ?? 1), action, marker, passes: 0 })
  }
  return found.size > 0 ? found : null
}

/** Whether what follows is to be left out. Throws as a full disk does, or doesn't return, where a test wants it. */
export function failpoint(name: string): boolean {
  const place = armed?.get(name)
  if (!place || ++place.passes !== place.at || !isFirst(place.marker)) return false
  switch (place.action) {
    case 'kill':
    case 'stop':
      process.kill(process.pid, place.action === 'kill' ? 'SIGKILL' : 'SIGSTOP')
      break
    case 'hang':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
      break
    case 'enospc':
      throw Object.assign(new Error(`ENOSPC: no space left on device, failpoint ${name}`), { code: 'ENOSPC' })
  }
  return place.action === 'skip'
}

function isFirst(marker: string | undefined): boolean {
  if (marker === undefined) return true
  try {
    closeSync(openSync(marker, 'wx', 0o600))
    return true
  } catch {
    return false
  }
}
