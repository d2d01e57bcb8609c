package bot;

/** The command: settings come from the environment. */
public final class Main {
  public static void main(String[] args) throws InterruptedException {
    String device = System.getenv().getOrDefault("PARLEY_DEVICE", "pong");
    var reason = new Bot(System.getenv("PARLEY_URL"), System.getenv("PARLEY_TOKEN"), device).run();
    System.out.println("the server said " + reason);
    System.exit(1);
  }
}
