package bot;

import com.google.protobuf.ByteString;
import com.parley.v1.ClientFrame;
import com.parley.v1.CloseReason;
import com.parley.v1.Content;
import com.parley.v1.Goodbye;
import com.parley.v1.Hello;
import com.parley.v1.HistoryRequest;
import com.parley.v1.HistoryResponse;
import com.parley.v1.MoveCursorRequest;
import com.parley.v1.Record;
import com.parley.v1.SendRequest;
import com.parley.v1.ServerFrame;
import com.parley.v1.SyncRequest;
import com.parley.v1.SyncResponse;
import java.io.IOException;
import java.net.http.HttpClient;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Answers each "ping" of a direct chat with "pong", once, whatever happens to it, to the network or to the server. ../README.md says why
 * it is built as it is.
 */
final class Bot {
  /** gRPC's numbers: INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED. The same again would be refused again. */
  private static final Set<Integer> FINAL = Set.of(3, 5, 7, 12);

  private final HttpClient http = HttpClient.newHttpClient();
  private final String configuredUrl;
  private final String token;
  private final String device;
  private final Semaphore news = new Semaphore(0);

  // What the socket's thread notes for the other one.
  private volatile String user;
  private volatile long heartbeatMs = 30_000;
  private volatile ByteString syncToken = ByteString.EMPTY;
  private volatile boolean mustSync;
  private volatile Goodbye goodbye;

  /** By conversation: the last seq that there is. */
  private final Map<String, Integer> heads = new ConcurrentHashMap<>();

  /** By conversation: up to which seq all is answered, and up to which an answer may have been sent. */
  private final Map<String, Integer> answered = new HashMap<>();

  private final Map<String, Integer> tried = new HashMap<>();

  Bot(String url, String token, String device) {
    this.configuredUrl = url;
    this.token = token;
    this.device = device;
  }

  /** Stays connected; returns why coming back makes no sense. */
  CloseReason run() throws InterruptedException {
    String url = configuredUrl;
    for (int failures = 0; ; failures++) {
      user = null;
      goodbye = null;
      try (Connection connection = open(url)) {
        work(connection);
      } catch (IOException error) {
        System.out.println("disconnected: " + error);
      }
      if (user != null) failures = 0;
      long waitMs = ThreadLocalRandom.current().nextLong(Math.min(30_000, 500L << Math.min(failures, 10)));
      url = configuredUrl;
      if (goodbye != null) {
        if (goodbye.getReasonValue() >= CloseReason.CLOSE_REASON_UNAUTHENTICATED_VALUE) return goodbye.getReason();
        waitMs = goodbye.getReconnectAfterMs();
        if (mayFollow(goodbye.getUrl())) url = goodbye.getUrl();
      }
      Thread.sleep(waitMs);
    }
  }

  /** Never from TLS to none. */
  private boolean mayFollow(String url) {
    return url.matches("(https|wss):.*") || (url.matches("(http|ws):.*") && configuredUrl.matches("(http|ws):.*"));
  }

  private Connection open(String url) throws IOException, InterruptedException {
    Connection connection = new Connection(http, url, token, this::take);
    connection.onEnd(news::release);
    Hello.Builder hello = Hello.newBuilder().setDeviceId(device).setSyncToken(syncToken).setRecordsPerConversation(1);
    connection.send(ClientFrame.newBuilder().setHello(hello).build());
    return connection;
  }

  /** Takes what the server sends, as fast as it comes: what is to be done about it is only noted. */
  private void take(ServerFrame frame) {
    switch (frame.getFrameCase()) {
      case WELCOME -> {
        user = frame.getWelcome().getUserId();
        heartbeatMs = frame.getWelcome().getHeartbeatMs();
        System.out.println("connected as " + user);
      }
      case SYNC -> noteSync(frame.getSync());
      case PUSHED -> {
        frame.getPushed().getRecordsList().forEach(record -> note(record.getConversationId(), record.getSeq()));
        mustSync |= frame.getPushed().getResync();
      }
      case HEARTBEAT -> {
        long sum = heads.values().stream().mapToLong(Integer::longValue).sum();
        mustSync |= frame.getHeartbeat().getHeadSum() > sum;
      }
      case GOODBYE -> goodbye = frame.getGoodbye();
      default -> {}
    }
    news.release();
  }

  private void note(String conversation, int seq) {
    heads.merge(conversation, seq, Math::max);
  }

  private void noteSync(SyncResponse sync) {
    sync.getConversationsList()
        .forEach(delta -> note(delta.getConversation().getConversationId(), delta.getConversation().getHeadSeq()));
    syncToken = sync.getToken();
  }

  /** Does what there is to do, whenever there is news, until the connection ends. */
  private void work(Connection connection) throws IOException, InterruptedException {
    while (true) {
      if (!news.tryAcquire(heartbeatMs * 5 / 2, TimeUnit.MILLISECONDS)) throw new IOException("nothing was heard");
      news.drainPermits();
      if (goodbye != null) throw new IOException("the server said " + goodbye.getReason());
      connection.check();
      try {
        while (mustSync) {
          SyncRequest.Builder request = SyncRequest.newBuilder().setToken(syncToken);
          SyncResponse sync = connection.call(ClientFrame.newBuilder().setSync(request), ServerFrame::getSync);
          noteSync(sync);
          mustSync = !sync.getComplete();
        }
        for (String conversation : heads.keySet()) {
          int head = heads.get(conversation);
          if (conversation.startsWith("d:") && answered.getOrDefault(conversation, 0) < head) {
            catchUp(connection, conversation, head);
          }
        }
      } catch (Connection.Refused refused) {
        Thread.sleep(Math.max(refused.failure.getRetryAfterMs(), 100));
        news.release();
      }
    }
  }

  private void catchUp(Connection connection, String conversation, int head) throws IOException, InterruptedException {
    try {
      answerAll(connection, conversation, head);
    } catch (Connection.Refused refused) {
      if (!FINAL.contains(refused.failure.getCode())) throw refused;
      System.out.println("no answers in " + conversation + ": " + refused.getMessage());
      answered.put(conversation, head);
    }
  }

  /** Answers what is not answered yet, oldest first. */
  private void answerAll(Connection connection, String conversation, int head)
      throws IOException, InterruptedException {
    if (!answered.containsKey(conversation)) {
      tried.put(conversation, head); // by an earlier life of this bot, maybe
      answered.put(conversation, lastAnswered(connection, conversation));
    }
    while (answered.get(conversation) < head) {
      List<Record> records =
          history(connection, HistoryRequest.newBuilder().setAfterSeq(answered.get(conversation)), conversation)
              .getRecordsList();
      if (records.isEmpty()) return;
      for (Record record : records) {
        answer(connection, record);
        answered.put(conversation, record.getSeq());
      }
      int seq = answered.get(conversation);
      MoveCursorRequest.Builder move =
          MoveCursorRequest.newBuilder().setConversationId(conversation).setDeliveredSeq(seq).setReadSeq(seq);
      connection.call(ClientFrame.newBuilder().setMoveCursor(move), ServerFrame::getMoveCursor);
    }
  }

  /** The log itself says how far an earlier life of this bot came: answers are made in order, and name what they answer. */
  private int lastAnswered(Connection connection, String conversation) throws IOException, InterruptedException {
    int before = 0;
    while (true) {
      HistoryResponse page =
          history(connection, HistoryRequest.newBuilder().setBeforeSeq(before).setLimit(200), conversation);
      List<Record> records = page.getRecordsList();
      for (int at = records.size() - 1; at >= 0; at--) {
        int replyTo = records.get(at).getMessage().getReplyToSeq();
        if (replyTo != 0 && records.get(at).getSenderId().equals(user)) return replyTo;
      }
      if (records.isEmpty() || records.get(0).getSeq() <= Math.max(page.getFloorSeq(), 1)) return 0;
      before = records.get(0).getSeq();
    }
  }

  private HistoryResponse history(Connection connection, HistoryRequest.Builder request, String conversation)
      throws IOException, InterruptedException {
    request.setConversationId(conversation);
    return connection.call(ClientFrame.newBuilder().setHistory(request), ServerFrame::getHistory);
  }

  private void answer(Connection connection, Record record) throws IOException, InterruptedException {
    String conversation = record.getConversationId();
    int seq = record.getSeq();
    String text = record.getMessage().getText();
    if (record.getSenderId().equals(user) || !text.startsWith("ping")) return;
    boolean isRetry = seq <= tried.get(conversation);
    tried.merge(conversation, seq, Math::max);
    SendRequest.Builder request =
        SendRequest.newBuilder()
            .setConversationId(conversation)
            .setClientId(clientId(conversation, seq))
            .setContent(Content.newBuilder().setText("pong" + text.substring("ping".length())).setReplyToSeq(seq))
            .setKnownHeadSeq(seq)
            .setRetry(isRetry);
    int sent = connection.call(ClientFrame.newBuilder().setSend(request), ServerFrame::getSend).getSeq();
    System.out.println("answered " + conversation + " #" + seq + " with #" + sent);
  }

  /** The same at every try, in every life of this bot: never a second answer. */
  private static ByteString clientId(String conversation, int seq) {
    try {
      byte[] named = (conversation + "#" + seq).getBytes(StandardCharsets.UTF_8);
      return ByteString.copyFrom(MessageDigest.getInstance("SHA-256").digest(named), 0, 16);
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException(error); // every Java has it
    }
  }
}
