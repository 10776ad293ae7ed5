import { useSignalEffect } from '@preact/signals'
import { useEffect, useState } from 'preact/hooks'
import { Layout } from './components/layout.tsx'
import { EmptyState, ErrorState, Loading } from './components/states.tsx'
import { Toasts } from './components/toast.tsx'
import { online, returns } from './live/connection.ts'
import { forgetJobs } from './live/jobs.ts'
import { NotFound } from './not-found.tsx'
import { type Page, type PageProps, pageAt } from './pages.ts'
import { path } from './router.ts'
import { apiKey, can, client, learnScopes } from './session.ts'
import { SignIn } from './sign-in.tsx'

export function App() {
  useSignalEffect(() => {
    if (apiKey.value === null) forgetJobs()
    else if (returns.value >= 0) void learnScopes()
  })
  useSignalEffect(() => (online.value ? undefined : askUntilBack()))
  const found = pageAt(path.value)
  // That there is nothing can be told without a key.
  if (apiKey.value === null)
    return found ? (
      <SignIn />
    ) : (
      <main class="sign-in" id="main">
        <NotFound />
      </main>
    )
  return (
    <>
      <Layout current={found?.page}>
        {found === null ? (
          <NotFound />
        ) : can(found.page.scope ?? 'read') ? (
          <Loaded key={found.page.pattern + JSON.stringify(found.params)} page={found.page} params={found.params} />
        ) : (
          <EmptyState
            title="Your key does not allow this"
            text={`This page needs an API key with the scope “${found.page.scope}”. Sign in with another key to use it.`}
          />
        )}
      </Layout>
      <Toasts />
    </>
  )
}

const AWAY_MS = 1000

/** Whatever the page does or waits for, it learns that the server is back. Returns how to end it. */
function askUntilBack(): () => void {
  const left = new AbortController()
  const polling = setInterval(
    () =>
      client
        .peek()
        .health({ maxRetries: 0, signal: left.signal })
        .catch(() => {}),
    AWAY_MS,
  )
  return () => {
    clearInterval(polling)
    left.abort()
  }
}

const RELOADED = 'mlx-training.reloaded'
const APART_MS = 30_000

/** The server may have been updated under an open tab: the files that this document names are gone then, but not its own. */
async function reloadOnce(): Promise<boolean> {
  const answers = await client
    .peek()
    .health({ maxRetries: 0 })
    .then(
      () => true,
      () => false,
    )
  if (!answers || Date.now() - Number(sessionStorage.getItem(RELOADED) ?? 0) < APART_MS) return false
  sessionStorage.setItem(RELOADED, String(Date.now()))
  window.location.reload()
  return true
}

type Component = Awaited<ReturnType<Page['load']>>['default']
const loaded = new Map<string, Component>()

/** A page's file is fetched once. */
function Loaded({ page, params }: { page: Page } & PageProps) {
  const [Content, setContent] = useState<Component | null>(() => loaded.get(page.pattern) ?? null)
  const [error, setError] = useState<Error | null>(null)
  const [tries, setTries] = useState(0)
  const back = returns.value
  // Another try is what `tries` is for.
  useEffect(() => {
    if (Content) return
    setError(null)
    page.load().then(
      ({ default: component }) => {
        loaded.set(page.pattern, component)
        setContent(() => component)
      },
      async (cause) => {
        if (!(await reloadOnce())) setError(cause)
      },
    )
  }, [tries, back])
  if (Content) return <Content params={params} />
  if (error) return <ErrorState error={error} onRetry={() => setTries(tries + 1)} />
  return <Loading label="Opening the page" />
}
