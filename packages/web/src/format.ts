/** Numbers and times for people; en dash for what is not known. */
export const NONE = '–'

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : value.toLocaleString('en')
}

/** 1 row, 2 rows */
export function counted(value: number, one: string): string {
  return `${count(value)} ${value === 1 ? one : `${one}s`}`
}

/** 1,234 → 1.2k; for narrow places. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE
  return new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 }).format(value)
}

/** Losses and the like: four significant digits, exponents where they are needed. */
export function number(value: number | null | undefined, digits = 4): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE
  const size = Math.abs(value)
  if (size !== 0 && (size < 1e-3 || size >= 1e6))
    return value
      .toExponential(2)
      .replace(/\.?0+e/, 'e')
      .replace('e+', 'e')
  if (size >= 1000) return Math.round(value).toLocaleString('en')
  return String(Number(value.toPrecision(digits)))
}

export function percent(value: number | null | undefined, digits = 0): string {
  return value === null || value === undefined ? NONE : `${value.toFixed(digits)}%`
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE
  const units = ['B', 'KB', 'MB', 'GB', 'TB']
  let size = value
  let unit = 0
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000
    unit++
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`
}

export const megabytes = (value: number | null | undefined) =>
  value === null || value === undefined ? NONE : bytes(value * 1e6)

/** Seconds as `45 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`
  if (whole < 86_400)
    return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`
}

/** The same to one or two digits, for narrow places: `45 s`, `3 min`, `2.2 h`, `3 d`. */
export function brief(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`
  if (seconds < 3570) return `${Math.round(seconds / 60)} min`
  if (seconds < 86_400) return `${Number((seconds / 3600).toPrecision(2))} h`
  return `${Number((seconds / 86_400).toPrecision(2))} d`
}

/** A moment as people say it: `just now`, `5 min ago`, then the date. */
export function ago(at: string | null | undefined, now = Date.now()): string {
  if (!at) return NONE
  const seconds = (now - Date.parse(at)) / 1000
  if (seconds < 45) return 'just now'
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`
  if (seconds < 86_400) return `${Math.round(seconds / 3600)} h ago`
  if (seconds < 7 * 86_400) return `${Math.round(seconds / 86_400)} d ago`
  return new Date(at).toLocaleDateString('en', { year: 'numeric', month: 'short', day: 'numeric' })
}

export function moment(at: string | null | undefined): string {
  if (!at) return NONE
  return new Date(at).toLocaleString('en', {
    month: 'short',
    day: 'numeric',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hour12: false,
  })
}

/** The last part of a path or repository, which is what people call it. */
export const baseName = (path: string) => path.replace(/\/+$/, '').split('/').pop() ?? path
