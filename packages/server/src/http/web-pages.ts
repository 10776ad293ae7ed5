/** Addresses of the dashboard's pages, as packages/web/src/pages.ts has them; none is one of the API. A test compares. */
export const WEB_PAGES = [
  '/',
  '/experiments/:name',
  '/comparison',
  '/new',
  '/data',
  '/data/:id',
  '/playground',
  '/server',
] as const

const PATTERNS = WEB_PAGES.map((page) => new RegExp(`^${page.replaceAll(/:\w+/g, '[^/]+')}$`))

export const isPage = (path: string) => PATTERNS.some((pattern) => pattern.test(path))
